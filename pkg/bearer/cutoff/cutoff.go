package cutoff

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// Retention is how long session and app cutoffs are live: longer than any access token.
// Key cutoffs are live for ever.
const Retention = 65 * time.Minute

// Kind is the kind of a cutoff: what it revokes.
type Kind string

// The base kinds, which every validator knows.
const (
	KindSession Kind = "session"
	KindApp     Kind = "app"
	KindKey     Kind = "key"
)

// kinds are the kinds that this package knows. To add a kind, add it here, and to
// [Cutoff.Check], [Cutoff.Hits] and [Set].
var kinds = []Kind{KindSession, KindApp, KindKey}

// Base reports whether the kind is one of the three that every validator knows.
func (k Kind) Base() bool { return k == KindSession || k == KindApp || k == KindKey }

// Cutoff is one revocation. The kind says which of the other fields count.
type Cutoff struct {
	Kind Kind `json:"kind"`
	// Session and Ver revoke tokens of this session below Ver; a Ver of zero means all of
	// them.
	Session string `json:"session,omitempty"`
	Ver     int64  `json:"ver,omitempty"`
	// App and Epoch revoke tokens of this app below Epoch.
	App   string `json:"app,omitempty"`
	Epoch int64  `json:"epoch,omitempty"`
	// KID revokes the tokens that this key signed.
	KID string `json:"kid,omitempty"`
}

// Token holds the parts of an access token that cutoffs look at: the claims sid, ver,
// client_id and epoch, and the header's kid.
type Token struct {
	Session string
	Ver     int64
	App     string
	Epoch   int64
	KID     string
}

// Hits reports whether the cutoff revokes the token.
func (c Cutoff) Hits(t Token) bool {
	switch c.Kind {
	case KindSession:
		return t.Session == c.Session && belowVer(t.Ver, c.Ver)
	case KindApp:
		return t.App == c.App && t.Epoch < c.Epoch
	case KindKey:
		return t.KID == c.KID
	default:
		return false
	}
}

// belowVer reports whether a session cutoff at ver hits a token of this version.
func belowVer(token, ver int64) bool { return ver == 0 || token < ver }

// Errors of [Cutoff.Check] and [ParseCutoff].
var (
	// ErrUnknownKind is a cutoff of a kind that this package does not know. A newer
	// service also sends base kinds with the same content, so a validator skips it.
	ErrUnknownKind = errors.New("cutoff: unknown kind of cutoff")
	// ErrMalformed is a cutoff without content, or an event without a cutoff.
	ErrMalformed = errors.New("cutoff: malformed")
)

// maxName bounds the names in a cutoff, in bytes.
const maxName = 128

// Check returns nil for a valid cutoff, and otherwise an error that wraps
// [ErrUnknownKind] or [ErrMalformed].
func (c Cutoff) Check() error {
	switch c.Kind {
	case KindSession:
		if !isName(c.Session) || c.Ver < 0 {
			return fmt.Errorf("%w: session cutoff", ErrMalformed)
		}
	case KindApp:
		if !isName(c.App) || c.Epoch <= 0 {
			return fmt.Errorf("%w: app cutoff", ErrMalformed)
		}
	case KindKey:
		if !isName(c.KID) {
			return fmt.Errorf("%w: key cutoff", ErrMalformed)
		}
	default:
		return ErrUnknownKind
	}
	return nil
}

// isName reports whether s is 1 to maxName printable ASCII characters.
func isName(s string) bool {
	if s == "" || len(s) > maxName {
		return false
	}
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

func areNames(names []string) bool {
	for _, s := range names {
		if !isName(s) {
			return false
		}
	}
	return true
}

// ParseCutoff reads the data of a cutoff event. It skips unknown members.
//
// Errors: those of [Cutoff.Check].
func ParseCutoff(data []byte) (Cutoff, error) {
	var c Cutoff
	if err := json.Unmarshal(data, &c); err != nil {
		return Cutoff{}, fmt.Errorf("%w: a cutoff is not valid JSON", ErrMalformed)
	}
	if err := c.Check(); err != nil {
		return Cutoff{}, err
	}
	return c, nil
}

package wechatsim

import (
	cryptorand "crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"maps"
	"math/rand/v2"
	"sync"
	"time"
)

const (
	// codeLife is the validity of a log-in or phone code.
	codeLife = 5 * time.Minute
	// maxEntries bounds each of the maps.
	maxEntries = 100_000
	// defaultMaxCalls is the default number of calls that are kept.
	defaultMaxCalls = 1000
)

// Config configures the simulated platform. The zero value is useful: it accepts any app
// and has no unionids.
type Config struct {
	// Apps holds the registered apps' secrets by appid. If it is empty, any appid is
	// accepted with any secret.
	Apps map[string]string
	// UnionID makes log-ins return the unionid, as if all apps belonged to one Open
	// Platform account.
	UnionID bool
	// Now is the clock; nil means [time.Now].
	Now func() time.Time
	// Seed makes the faults with a probability reproducible. Zero means a different
	// sequence each time.
	Seed uint64
	// MaxCalls is the number of calls that [Simulator.Calls] keeps; zero means 1000.
	MaxCalls int
}

// Simulator is one simulated platform. It is safe for concurrent use.
type Simulator struct {
	apps    map[string]string
	unionID bool
	now     func() time.Time

	mu         sync.Mutex
	random     *rand.Rand
	codes      *bounded[string, *loginCode]
	phoneCodes *bounded[string, *phoneCode]
	sessions   *bounded[account, userSession]
	tokens     *bounded[string, *accessToken]
	holders    *bounded[string, *tokenHolder] // by appid
	faults     []*Fault
	calls      *ring[Call]
	seq        int64
}

// account is a user in an app.
type account struct{ appID, openID string }

// userSession is WeChat's state of an account that has logged in.
type userSession struct{ key string }

// New returns a simulator with no codes, calls or faults.
func New(cfg Config) *Simulator {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Seed == 0 {
		cfg.Seed = rand.Uint64()
	}
	if cfg.MaxCalls <= 0 {
		cfg.MaxCalls = defaultMaxCalls
	}
	return &Simulator{
		apps:       maps.Clone(cfg.Apps),
		unionID:    cfg.UnionID,
		now:        cfg.Now,
		random:     rand.New(rand.NewPCG(cfg.Seed, 0)),
		codes:      newBounded[string, *loginCode](maxEntries),
		phoneCodes: newBounded[string, *phoneCode](maxEntries),
		sessions:   newBounded[account, userSession](maxEntries),
		tokens:     newBounded[string, *accessToken](maxEntries),
		holders:    newBounded[string, *tokenHolder](maxEntries),
		calls:      newRing[Call](cfg.MaxCalls),
	}
}

// OpenID returns the user's openid in the app: 28 characters, always the same.
func OpenID(appID, user string) string { return derivedID("openid", appID, user) }

// UnionID returns the user's unionid, the same in all apps.
func UnionID(user string) string { return derivedID("unionid", "", user) }

func derivedID(kind, appID, user string) string {
	sum := sha256.Sum256([]byte("yufu wechatsim\x00" + kind + "\x00" + appID + "\x00" + user))
	return "o" + base64.RawURLEncoding.EncodeToString(sum[:])[:27]
}

// checkApp returns the errcode for an app's credentials, or 0.
func (s *Simulator) checkApp(appID, secret string) int {
	known, ok := s.apps[appID]
	switch {
	case len(s.apps) == 0 && validAppID(appID):
		return 0
	case !ok:
		return errInvalidAppID
	case known != secret:
		return errInvalidSecret
	}
	return 0
}

func validAppID(s string) bool { return len(s) <= 64 && isText(s, false) }

// isText reports whether s is not empty and has only letters and digits, and with dashes
// also hyphens and underscores.
func isText(s string, dashes bool) bool {
	for i := range len(s) {
		c := s[i]
		if !('0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || dashes && (c == '-' || c == '_')) {
			return false
		}
	}
	return s != ""
}

// randomText returns n random letters and digits.
func randomText(n int) string {
	const alphabet = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	text := make([]byte, 0, n)
	for len(text) < n {
		for _, b := range randomBytes(2 * n) {
			// Six bits make 64 values; the two extra values are skipped.
			if i := int(b & 63); i < len(alphabet) && len(text) < n {
				text = append(text, alphabet[i])
			}
		}
	}
	return string(text)
}

// randomBytes returns n random bytes.
func randomBytes(n int) []byte {
	b := make([]byte, n)
	_, _ = cryptorand.Read(b) // never fails
	return b
}

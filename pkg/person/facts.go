package person

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/seal"
)

// MaxFactLen is how long a fact may be, in characters, before and after it is
// normalised.
const MaxFactLen = 200

// NormalizeFact returns a fact as it is compared. It folds what people cannot see
// or do not mean when they type, paste or import a name or a number:
//
//   - full-width, half-width and presentation forms (Unicode form NFKC, UAX #15);
//   - upper and lower case;
//   - invisible characters ([auth.Invisible]), the tatweel of Arabic script, and
//     white space, wherever it stands;
//   - the dot between parts of a name, which keyboards offer in a dozen forms, and
//     the forms of dashes and apostrophes.
//
// Another form of the same is another fact: what people write in several ways
// ("1990-01-02") is best imported as they are asked for it. Letters that look
// alike and are others (a Latin and a Cyrillic a) stay different.
//
// Errors: [auth.InvalidRequest] when nothing is left, or it is too long or no
// text.
func NormalizeFact(s string) (string, error) {
	if len(s) > MaxFactLen*utf8.UTFMax || utf8.RuneCountInString(s) > MaxFactLen {
		return "", errFactLen
	}
	if !utf8.ValidString(s) {
		return "", errFactText
	}
	// Each step may leave what another one would still fold or compose (Unicode
	// Standard section 3.13, D146), hence again until nothing changes.
	const maxRounds = 8
	for n := 0; ; n++ {
		folded := cases.Fold().String(norm.NFKC.String(strings.Map(foldForm, s)))
		folded = norm.NFKC.String(strings.Map(foldCherokee, folded))
		if folded == s {
			break
		}
		if s = folded; n == maxRounds {
			return "", errFactText
		}
	}
	switch {
	case !auth.CleanText(s):
		return "", errFactText
	case s == "":
		return "", auth.Invalid("a fact must not be empty")
	case utf8.RuneCountInString(s) > MaxFactLen:
		return "", errFactLen
	}
	return s, nil
}

// The forms of characters that are meant alike. NFKC has done the full-width ones
// and the like, except where it makes something else of them.
const (
	// As people type, or as staff files have, between the parts of a name: the
	// middle dots of several scripts, bullets, and full stops.
	dotForms = "·•・‧.。․‥∙⋅⸱⸳ꞏ᛫ᐧᆞㆍ●"
	// Phones replace the plain apostrophe while people type.
	apostropheForms = "'‘’‛ʼʻʹ′´`ꞌ"
	// Dashes that Unicode has elsewhere than among its dashes, and some that are
	// none: the wave dash, and the double hyphen of Japanese names.
	moreDashes  = "⁃˗─"
	otherDashes = "〜〰⁓゠"
)

// foldForm folds one character, or removes it.
func foldForm(r rune) rune {
	const tatweel = '\u0640'
	switch {
	case unicode.IsSpace(r), auth.Invisible(r), r == tatweel:
		return -1
	case strings.ContainsRune(dotForms, r):
		return '·'
	case strings.ContainsRune(apostropheForms, r):
		return '\''
	case r == '゠':
		return '='
	case unicode.Is(unicode.Dash, r) && !strings.ContainsRune(otherDashes, r), strings.ContainsRune(moreDashes, r):
		return '-'
	}
	return r
}

// foldCherokee folds the small letters of Cherokee to the capitals, as the Unicode
// Character Database has it (CaseFolding.txt), for this script only. [cases.Fold]
// turns the ones into the others, both ways.
func foldCherokee(r rune) rune {
	switch {
	case 'ꭰ' <= r && r <= 'ꮿ':
		return r - 'ꭰ' + 'Ꭰ'
	case 'ᏸ' <= r && r <= 'ᏽ':
		return r - 'ᏸ' + 'Ᏸ'
	}
	return r
}

var (
	errFactLen  = auth.Invalid("a fact must have at most 200 characters")
	errFactText = auth.Invalid("a fact must be UTF-8 text without control characters")
)

// FactKey makes MACs of facts. It is random, made once for a database, and kept there
// sealed with the master key. The master key can change and this key stays: the facts
// themselves are not kept, so their MACs could not be computed again.
type FactKey struct {
	key []byte
}

// factKeyAAD is the associated data of the key at rest.
func factKeyAAD() []byte { return seal.AAD("fact_keys", "sealed", "1") }

// FactKeyStore keeps the sealed key of the facts. [Store] includes it.
type FactKeyStore interface {
	// FactKey returns the sealed key of the facts, or nil while there is none.
	FactKey(ctx context.Context) ([]byte, error)
	// AddFactKey keeps the sealed key unless there is one, and returns the one that is
	// kept.
	AddFactKey(ctx context.Context, sealed []byte, now time.Time) ([]byte, error)
}

// OpenFactKey opens the key of the database, and makes it on the first start.
// Replicas that start at once agree. The error of a key that does not open is
// [seal.ErrOpen].
func OpenFactKey(ctx context.Context, s FactKeyStore, sealer *seal.Ring, now time.Time) (*FactKey, error) {
	sealed, err := s.FactKey(ctx)
	if err != nil {
		return nil, fmt.Errorf("person: load the key of the facts: %w", err)
	}
	if sealed == nil {
		fresh := make([]byte, sha256.Size)
		_, _ = rand.Read(fresh) // never fails: crypto/rand aborts the program instead
		sealedFresh, err := sealer.Seal(fresh, factKeyAAD())
		if err != nil {
			return nil, err
		}
		if sealed, err = s.AddFactKey(ctx, sealedFresh, now); err != nil {
			return nil, fmt.Errorf("person: store the key of the facts: %w", err)
		}
	}
	key, err := sealer.Open(sealed, factKeyAAD())
	if err != nil {
		return nil, fmt.Errorf("person: open the key of the facts: %w", err)
	}
	return &FactKey{key}, nil
}

// MAC returns the MAC of a fact: HMAC-SHA-256 over its name and its normalised
// value. It does not depend on the person, so that a person can be found by it. A
// reader of the database without the master key sees which persons have a fact in
// common, but not which fact.
func (k *FactKey) MAC(name, normalized string) []byte {
	h := hmac.New(sha256.New, k.key)
	var length [2]byte
	binary.BigEndian.PutUint16(length[:], uint16(len(name))) //nolint:gosec // a name has at most 32 bytes
	_, _ = h.Write(length[:])
	_, _ = h.Write([]byte(name))
	_, _ = h.Write([]byte(normalized))
	return h.Sum(nil)
}

// MACs checks and normalises facts by name and returns their MACs, as a [Draft]
// has them. A value of nil removes the fact, and stays nil.
//
// Errors: [auth.InvalidRequest].
func (k *FactKey) MACs(facts map[string]*string) (map[string][]byte, error) {
	if len(facts) > auth.MaxFacts {
		return nil, auth.Invalid("a person must have at most 16 facts")
	}
	macs := make(map[string][]byte, len(facts))
	for name, value := range facts {
		if !auth.ValidFactName(name) {
			return nil, auth.Invalid("the name of a fact must be 1 to 32 lower-case letters, digits and underscores, and begin with a letter")
		}
		if value == nil {
			macs[name] = nil
			continue
		}
		normalized, err := NormalizeFact(*value)
		if err != nil {
			return nil, err
		}
		macs[name] = k.MAC(name, normalized)
	}
	return macs, nil
}

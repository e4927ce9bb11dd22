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

// MaxFactLen is the maximum length of a fact in characters, before and after it is
// normalised.
const MaxFactLen = 200

// NormalizeFact returns a fact in the form that is compared. It folds differences that
// people cannot see or do not mean when they type, paste or import a name or a number:
//
//   - full-width, half-width and presentation forms (Unicode form NFKC, UAX #15);
//   - upper and lower case;
//   - invisible characters ([auth.Invisible]), the tatweel of Arabic script, and
//     white space, anywhere;
//   - the dot between parts of a name, which keyboards offer in a dozen forms, and
//     the forms of dashes and apostrophes.
//
// Other differences are kept: a value that people write in several ways ("1990-01-02")
// is best imported in the form in which users are asked for it. Different letters that
// look alike (a Latin and a Cyrillic a) stay different.
//
// Errors: [auth.InvalidRequest] when the result is empty or too long, or the input is not
// clean text.
func NormalizeFact(s string) (string, error) {
	if len(s) > MaxFactLen*utf8.UTFMax || utf8.RuneCountInString(s) > MaxFactLen {
		return "", errFactLen
	}
	if !utf8.ValidString(s) {
		return "", errFactText
	}
	// The output of one step may need another step again (Unicode Standard section
	// 3.13, D146), so repeat until nothing changes.
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

// Characters with the same meaning. NFKC folds full-width and similar forms, except
// those that it would turn into other characters.
const (
	// Dots between the parts of a name, as people type them or staff files have them:
	// the middle dots of several scripts, bullets, and full stops.
	dotForms = "·•・‧.。․‥∙⋅⸱⸳ꞏ᛫ᐧᆞㆍ●"
	// Phones replace the plain apostrophe while people type.
	apostropheForms = "'‘’‛ʼʻʹ′´`ꞌ"
	// moreDashes are dashes that are not in Unicode's class Dash. otherDashes are in it,
	// but are not dashes: the wave dash, and the double hyphen of Japanese names.
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
// Character Database has it (CaseFolding.txt), for this script only. [cases.Fold] swaps
// small letters and capitals.
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

// FactKey computes MACs of facts. It is random, made once for a database, and stored
// there sealed with the master key. It stays the same when the master key changes: the
// facts themselves are not stored, so their MACs could not be computed again.
type FactKey struct {
	key []byte
}

// factKeyAAD is the associated data of the key at rest.
func factKeyAAD() []byte { return seal.AAD("fact_keys", "sealed", "1") }

// FactKeyStore keeps the sealed key of the facts. [Store] includes it.
type FactKeyStore interface {
	// FactKey returns the sealed key of the facts, or nil while there is none.
	FactKey(ctx context.Context) ([]byte, error)
	// AddFactKey stores the sealed key unless there is one, and returns the stored key.
	AddFactKey(ctx context.Context, sealed []byte, now time.Time) ([]byte, error)
}

// OpenFactKey opens the key of the database, and makes it on the first start. Replicas
// that start at the same time agree. If the key does not open, the error is
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
// value. It does not depend on the person, so that it can find a person. A reader of the
// database without the master key sees which persons have a fact in common, but not the
// fact.
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

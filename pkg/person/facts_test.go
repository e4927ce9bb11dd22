package person_test

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"unicode"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/person"
	"github.com/yufu-auth/yufu/pkg/seal"
)

func TestNormalizeFact(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"1001": "1001", " １００１　": "1001", "李雷": "李雷", "\t李雷\n": "李雷", "AbC": "abc", "ＡＢＣ": "abc", "STRASSE": "strasse",
		"Straße": "strasse", "Å": "å", "A\u030a": "å", "ﬁn": "fin", "ΣΑΣ": "σασ", "σας": "σασ", "㎏": "kg", "李 雷": "李雷",
		"a\nb": "ab", "": "", "  ": "", "a\x00b": "", "\xff": "", "\u200e\ufeff": "", strings.Repeat("李", 201): "", strings.Repeat("\ufdfa", 200): "",
		strings.Repeat("李", 200): strings.Repeat("李", 200),
		"ᎠᏯᏰᏵ":                   "ᎠᏯᏰᏵ", "ꭰꮿᏸᏽ": "ᎠᏯᏰᏵ",
	} {
		got, err := person.NormalizeFact(in)
		if got != want || (err == nil) != (want != "") || err != nil && !errors.Is(err, auth.InvalidRequest) {
			t.Errorf("NormalizeFact(%.30q) = %.30q, %v, want %.30q", in, got, err, want)
		}
	}
	// Normalising again changes nothing, for all characters.
	for r := range rune(unicode.MaxRune + 1) {
		got, err := person.NormalizeFact(string(r))
		if err != nil {
			continue
		}
		if again, err := person.NormalizeFact(got); again != got || err != nil {
			t.Errorf("NormalizeFact(%U) = %q, and again %q, %v", r, got, again, err)
		}
	}
}

// alike are spellings of one name or number, as people type and paste them and as
// staff files have them. The first is the correct one.
var alike = map[string][]string{
	"a Uighur name in Chinese": {
		"买买提·艾力", "买买提•艾力", "买买提・艾力", "买买提･艾力", "买买提‧艾力", "买买提.艾力", "买买提．艾力", "买买提。艾力", "买买提｡艾力",
		"买买提\u2219艾力", "买买提\u22c5艾力", "买买提\u0387艾力", "买买提●艾力", "买买提 · 艾力", "买买提\u3000·\u3000艾力", "\u202d买买提·艾力\u202c", "买买提\ua78f艾力",
		"买买提ㆍ艾力", "买买提\u2024艾力", "买买提﹒艾力",
	},
	"a Uighur name in Arabic script": {"مەمەت ئەلى", "\u200fمەمەت ئەلى\u200f", "مەمەت\u00a0ئەلى", "مەمـــەت ئەلى", "ﻣەﻣەﺕ ئەﻟﻰ", "\u2067مەمەت ئەلى\u2069"},
	"a Chinese name":                 {"李雷", "李 雷", "李\u3000雷", " 李雷 ", "李\u00a0\u00a0雷", "\ufeff李雷", "李雷\u200b", "李\u2060雷", "李雷\t", "李\r\n雷", "李\u2005雷", "李雷\ufe0f"},
	"a Japanese name in katakana":    {"ジョン・スミス", "ｼﾞｮﾝ･ｽﾐｽ", "ジョン·スミス", "シ\u3099ョン・スミス", "ジョン • スミス", "ジョン．スミス"},
	"a double name in katakana":      {"ジャン゠リュック", "ジャン＝リュック", "ジャン=リュック"},
	"a Japanese name with a variant": {"葛城", "葛\U000e0100城", "葛\ufe00城"},
	"an Irish name":                  {"Sinéad O'Brien", "sinéad o’brien", "Sine\u0301ad O‘Brien", "SINÉAD OʼBRIEN", "Sinéad O´Brien", "Sinéad O`Brien", "Sinéad O＇Brien", "Sinéad\u202fO′Brien"},
	"a French name":                  {"Jean-Luc Ménard", "Jean\u2010Luc Ménard", "Jean\u2011Luc Ménard", "Jean–Luc Ménard", "Jean—Luc  Ménard", "JEAN-LUC MÉNARD", "Jean\u2212Luc Me\u0301nard", "Jean－Luc Ménard"},
	"an American name":               {"John F. Kennedy", "John F．Kennedy", "john f·kennedy", "Ｊｏｈｎ Ｆ． Ｋｅｎｎｅｄｙ"},
	"a Persian name":                 {"علی\u200cرضا", "علیرضا", "علی\u200dرضا"},
	"a Korean name":                  {"김철수", "김 철수", "\u1100\u1175\u11b7철수", "\u3164김철수"},
	"a staff number":                 {"E-1001", "e-1001", "Ｅ－１００１", "E–1001", "E\u20111001", "E\u22121001", "E \u2013 1001", "E-1001\u200e", "\u2066E-1001\u2069", "E-10\u00ad01", "E─1001"},
	"an identity number":             {"11010519491231002X", "11010519491231002x", "１１０１０５１９４９１２３１００２Ｘ", "110105 1949 1231 002X", "110105\u00a019491231\u00a0002x", "\u202a11010519491231002X\u202c", "𝟏10105194912310𝟎2X"},
}

// apart are names and numbers that stay different.
var apart = [][2]string{
	{"李雷", "李蕾"}, {"买买提·艾力", "买买提艾力"}, {"Jean-Luc", "JeanLuc"}, {"O'Brien", "OBrien"}, {"ジョン・スミス", "ジョンスミス"},
	{"José", "Jose"}, {"佐々木", "佐佐木"}, {"はは", "ばば"}, {"ビール", "ビ-ル"}, {"علي", "على"}, {"علي", "علی"}, {"а", "a"}, {"1001", "1001·0"},
	{"髙橋", "高橋"}, {"E-1001", "E1001"}, {"0", "O"}, {"Ana", "Anna"}, {"1-1", "1=1"}, {"-", "一"}, {"a~b", "a-b"},
}

func TestSpellings(t *testing.T) {
	t.Parallel()
	normal := func(s string) string {
		t.Helper()
		n, err := person.NormalizeFact(s)
		if err != nil {
			t.Errorf("NormalizeFact(%+q) error = %v", s, err)
		}
		return n
	}
	names := map[string]string{}
	for what, spellings := range alike {
		want := normal(spellings[0])
		if other, taken := names[want]; taken {
			t.Errorf("%s and %s have the same normal form", what, other)
		}
		names[want] = what
		for _, s := range spellings {
			if got := normal(s); got != want {
				t.Errorf("%s: NormalizeFact(%+q) = %+q, want %+q", what, s, got, want)
			}
		}
	}
	for _, pair := range apart {
		if a, b := normal(pair[0]), normal(pair[1]); a == b {
			t.Errorf("NormalizeFact makes %+q of both %+q and %+q", a, pair[0], pair[1])
		}
	}
}

// Five mistakes lock a user out for a while, so no spelling may count as a mistake: with
// any spelling in the staff file, a user who types another one is bound.
func TestSpellingsBind(t *testing.T) {
	t.Parallel()
	for what, spellings := range alike {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			for i, imported := range spellings {
				number := fmt.Sprint("S-", i)
				typed := append(slices.Clone(spellings[i:]), spellings[:i]...)
				form := person.Form{ExternalID: &number, Facts: map[string]*string{"employee_no": &number, "name": &imported}}
				if _, err := w.Persons.CreatePerson(t.Context(), form, auth.Caller{Actor: auth.ActorCLI}); err != nil {
					t.Fatalf("CreatePerson() with the name %+q: error = %v", imported, err)
				}
				token := w.Login(fmt.Sprint("user", i)).AccessToken
				for _, name := range typed {
					g, err := w.ByFacts(token, " "+strings.ToLower(number)+"\u200e", name)
					if err != nil {
						t.Fatalf("the file has %+q, the user types %+q: error = %v", imported, name, err)
					}
					if g.Changed {
						token = g.AccessToken
					}
				}
			}
			var n int
			if err := w.db.QueryRowContext(t.Context(), `select count(*) from audit where action = 'binding.refused'`).Scan(&n); err != nil || n != 0 {
				t.Errorf("%d attempts were refused, error %v, want 0", n, err)
			}
		})
	}
}

func FuzzNormalizeFact(f *testing.F) {
	for _, spellings := range alike {
		f.Add(strings.Join(spellings, ""))
	}
	for _, s := range []string{"1001", "=\u0338", "゠\u0338", "´a", "¨", "ㆍ", "ﾠa", "x\u200d\u0301", "Straße", "ＡＢＣ　", "İ", "ͅ", "ﬃ", "Ꮀ"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := person.NormalizeFact(s)
		if err != nil {
			return
		}
		if again, err := person.NormalizeFact(got); again != got || err != nil {
			t.Errorf("NormalizeFact(%q) = %q, and again %q, %v, want no further change", s, got, again, err)
		}
	})
}

func TestFactKey(t *testing.T) {
	t.Parallel()
	t.Run("replicas that start together agree, and a new master key changes nothing", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		if _, err := w.db.Exec(`delete from fact_keys`); err != nil {
			t.Fatal(err)
		}
		old, fresh := bytes.Repeat([]byte{1}, seal.KeySize), bytes.Repeat([]byte{2}, seal.KeySize)
		first, err := seal.NewRing(old)
		if err != nil {
			t.Fatal(err)
		}
		macs := make([][]byte, 8)
		var wg sync.WaitGroup
		for i := range macs {
			wg.Go(func() {
				k, err := person.OpenFactKey(t.Context(), w.store, first, w.Clock.Now())
				if err != nil {
					t.Error(err)
					return
				}
				macs[i] = k.MAC("name", "李雷")
			})
		}
		wg.Wait()
		rotated, err := seal.NewRing(fresh, old)
		if err != nil {
			t.Fatal(err)
		}
		k, err := person.OpenFactKey(t.Context(), w.store, rotated, w.Clock.Now())
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range macs {
			if !bytes.Equal(m, k.MAC("name", "李雷")) {
				t.Fatal("the replicas have different keys")
			}
		}
		other, err := seal.NewRing(fresh)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := person.OpenFactKey(t.Context(), w.store, other, w.Clock.Now()); !errors.Is(err, seal.ErrOpen) {
			t.Errorf("OpenFactKey() with another master key: error = %v, want %v", err, seal.ErrOpen)
		}
	})
	t.Run("different facts have different MACs", func(t *testing.T) {
		t.Parallel()
		k := newWorld(t).Facts
		seen := map[string]string{}
		for _, f := range [][2]string{{"a", "bc"}, {"ab", "c"}, {"abc", ""}, {"a", "b"}, {"name", "a"}, {"name", "b"}} {
			m := string(k.MAC(f[0], f[1]))
			if other, taken := seen[m]; taken || len(m) != 32 {
				t.Errorf("%q has the MAC of %q", f, other)
			}
			seen[m] = f[0] + "=" + f[1]
		}
	})
}

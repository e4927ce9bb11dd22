package binding_test

import (
	"bytes"
	"errors"
	"strings"
	"sync"
	"testing"
	"unicode"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/binding"
	"github.com/yufu-auth/yufu/pkg/seal"
)

func TestNormalizeFact(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"1001": "1001", " １００１　": "1001", "李雷": "李雷", "\t李雷\n": "李雷", "AbC": "abc", "ＡＢＣ": "abc", "STRASSE": "strasse",
		"Straße": "strasse", "Å": "å", "A\u030a": "å", "ﬁn": "fin", "ΣΑΣ": "σασ", "σας": "σασ", "㎏": "kg", "李 雷": "李 雷",
		"": "", "  ": "", "a\x00b": "", "a\nb": "", "\xff": "", strings.Repeat("李", 201): "", strings.Repeat("\ufdfa", 200): "",
		strings.Repeat("李", 200): strings.Repeat("李", 200),
		"ᎠᏯᏰᏵ":                   "ᎠᏯᏰᏵ", "ꭰꮿᏸᏽ": "ᎠᏯᏰᏵ",
	} {
		got, err := binding.NormalizeFact(in)
		if got != want || (err == nil) != (want != "") || err != nil && !errors.Is(err, auth.InvalidRequest) {
			t.Errorf("%.30q: %.30q, %v; want %.30q", in, got, err, want)
		}
	}
	// What was normalised stays as it is, whatever the character.
	for r := range rune(unicode.MaxRune + 1) {
		got, err := binding.NormalizeFact(string(r))
		if err != nil {
			continue
		}
		if again, err := binding.NormalizeFact(got); again != got || err != nil {
			t.Errorf("%U became %q, and that %q, %v", r, got, again, err)
		}
	}
}

func FuzzNormalizeFact(f *testing.F) {
	for _, s := range []string{"1001", "Straße", "ＡＢＣ　", "İ", "ͅ", "ﬃ", "Ꮀ"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := binding.NormalizeFact(s)
		if err != nil {
			return
		}
		if again, err := binding.NormalizeFact(got); again != got || err != nil {
			t.Errorf("%q became %q, and that %q, %v", s, got, again, err)
		}
	})
}

func TestFactKey(t *testing.T) {
	t.Parallel()
	t.Run("is_the_same_for_replicas_that_start_at_once_and_after_a_change_of_the_master_key", func(t *testing.T) {
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
				k, err := binding.OpenFactKey(t.Context(), w.store, first, w.Clock.Now())
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
		k, err := binding.OpenFactKey(t.Context(), w.store, rotated, w.Clock.Now())
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range macs {
			if !bytes.Equal(m, k.MAC("name", "李雷")) {
				t.Fatal("the key differs")
			}
		}
		other, err := seal.NewRing(fresh)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := binding.OpenFactKey(t.Context(), w.store, other, w.Clock.Now()); !errors.Is(err, seal.ErrOpen) {
			t.Errorf("with another master key: %v", err)
		}
	})
	t.Run("makes_different_MACs_of_different_facts", func(t *testing.T) {
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

package seal

import (
	"bytes"
	"errors"
	"strings"
	"testing"
)

func ring(t *testing.T, fills ...byte) *Ring {
	t.Helper()
	var keys [][]byte
	for _, f := range fills {
		keys = append(keys, bytes.Repeat([]byte{f}, KeySize))
	}
	r, err := NewRing(keys...)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestSeal(t *testing.T) {
	aad := AAD("apps", "secret", "wx1")
	t.Run("a sealed value opens only in its place", func(t *testing.T) {
		r := ring(t, 1)
		sealed, err := r.Seal([]byte("app secret"), aad)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(sealed, []byte("secret")) {
			t.Error("the sealed value shows the plaintext")
		}
		got, err := r.Open(sealed, aad)
		if err != nil || string(got) != "app secret" {
			t.Fatalf("Open() = %q, %v, want the plaintext", got, err)
		}
		for _, other := range [][]byte{nil, AAD("apps", "secret", "wx2"), AAD("apps", "secre", "twx1"), AAD("apps", "secret", "wx1", "")} {
			if _, err := r.Open(sealed, other); !errors.Is(err, ErrOpen) {
				t.Errorf("Open() in another place: error = %v, want ErrOpen", err)
			}
		}
	})
	t.Run("the same text seals differently each time", func(t *testing.T) {
		r := ring(t, 1)
		a, _ := r.Seal([]byte("x"), aad)
		b, _ := r.Seal([]byte("x"), aad)
		if bytes.Equal(a, b) {
			t.Error("two seals are equal")
		}
	})
	t.Run("every changed bit is detected", func(t *testing.T) {
		r := ring(t, 1)
		sealed, _ := r.Seal([]byte("x"), aad)
		for i := range len(sealed) * 8 {
			bad := bytes.Clone(sealed)
			bad[i/8] ^= 1 << (i % 8)
			if _, err := r.Open(bad, aad); !errors.Is(err, ErrOpen) {
				t.Fatalf("Open() with bit %d changed: error = %v, want ErrOpen", i, err)
			}
		}
		for n := range sealed {
			if _, err := r.Open(sealed[:n], aad); !errors.Is(err, ErrOpen) {
				t.Fatalf("Open() of %d bytes: error = %v, want ErrOpen", n, err)
			}
		}
	})
	t.Run("the first key seals and all open", func(t *testing.T) {
		sealedByOld, _ := ring(t, 1).Seal([]byte("x"), aad)
		both := ring(t, 2, 1)
		if _, err := both.Open(sealedByOld, aad); err != nil {
			t.Errorf("an old value does not open: error = %v", err)
		}
		sealedByBoth, _ := both.Seal([]byte("x"), aad)
		if _, err := ring(t, 2).Open(sealedByBoth, aad); err != nil {
			t.Errorf("the first key did not seal: error = %v", err)
		}
		if _, err := ring(t, 1).Open(sealedByBoth, aad); !errors.Is(err, ErrOpen) {
			t.Errorf("the second key sealed: error = %v, want %v", err, ErrOpen)
		}
	})
}

func TestParseRing(t *testing.T) {
	one := string(GenerateFile())
	two := string(GenerateFile())
	for name, tc := range map[string]struct {
		file string
		keys int
		want string
	}{
		"one line":                          {one, 1, ""},
		"trailing white space is ignored":   {strings.TrimSpace(one) + " \r\n\n", 1, ""},
		"comments, blank lines and a BOM":   {"\ufeff# old\n\n" + one + two, 2, ""},
		"empty":                             {"\n", 0, "openssl rand"},
		"not base64":                        {"hunter2hunter2\n", 0, "line 1"},
		"too short":                         {one + "AAAA\n", 0, "line 2"},
		"the same key twice":                {one + one, 0, "repeated"},
		"far too many keys are no rotation": {strings.Repeat(one, 17), 0, "1 to 16"},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := ParseRing([]byte(tc.file))
			if tc.want == "" {
				if err != nil || len(*r.keys.Load()) != tc.keys {
					t.Fatalf("ParseRing() error = %v", err)
				}
				return
			}
			if !errors.Is(err, ErrMasterKey) || !strings.Contains(err.Error(), tc.want) {
				t.Fatalf("ParseRing() error = %v, want one with %q", err, tc.want)
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("the error shows the key: %v", err)
			}
		})
	}
}

func FuzzOpen(f *testing.F) {
	r, _ := NewRing(bytes.Repeat([]byte{1}, KeySize))
	good, _ := r.Seal([]byte("x"), []byte("aad"))
	f.Add(good, []byte("aad"))
	f.Add([]byte{}, []byte{})
	f.Fuzz(func(t *testing.T, sealed, aad []byte) {
		// Each fuzzing process seals another value, so compare the plaintext.
		if plain, err := r.Open(sealed, aad); err == nil && (string(plain) != "x" || string(aad) != "aad") {
			t.Fatalf("Open() of a value that was never sealed = %q", plain)
		}
	})
}

// FuzzParseRing checks that a parsed ring seals and opens, that only the lines matter,
// and that an error shows nothing of the file.
func FuzzParseRing(f *testing.F) {
	aad := AAD("apps", "secret", "wx1")
	f.Fuzz(func(t *testing.T, file []byte) {
		r, err := ParseRing(file)
		if err != nil {
			if r != nil || !errors.Is(err, ErrMasterKey) {
				t.Fatalf("ParseRing() = %v, %v", r, err)
			}
			for line := range strings.Lines(string(file)) {
				if line = strings.TrimSpace(line); len(line) > 16 && strings.Contains(err.Error(), line) {
					t.Fatalf("the error shows a line: %v", err)
				}
			}
			return
		}
		if len(*r.keys.Load()) == 0 || len(*r.keys.Load()) > maxMasterKeys {
			t.Fatalf("ParseRing() returned a ring of %d keys", len(*r.keys.Load()))
		}
		sealed, err := r.Seal([]byte("x"), aad)
		if err != nil {
			t.Fatal(err)
		}
		again, err := ParseRing(append(bytes.Clone(file), "\r\n# a comment \r\n"...))
		if err != nil {
			t.Fatalf("ParseRing() with a comment at the end: error = %v", err)
		}
		if got, err := again.Open(sealed, aad); err != nil || string(got) != "x" {
			t.Fatalf("Open() with the ring parsed again = %q, %v", got, err)
		}
	})
}

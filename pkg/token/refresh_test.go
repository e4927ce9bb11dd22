package token_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/token"
)

// macKeys is a fixed set of MAC keys. The first id is current.
type macKeys struct {
	current uint32
	keys    map[uint32][]byte
}

func (m macKeys) CurrentMACKey(time.Time) (uint32, []byte, error) {
	key, ok := m.keys[m.current]
	if !ok {
		return 0, nil, errNoKey
	}
	return m.current, key, nil
}

func (m macKeys) MACKey(id uint32) ([]byte, bool) {
	key, ok := m.keys[id]
	return key, ok
}

var errNoKey = errors.New("no key")

// fixedMACKeys are two keys that never change, so that tokens can be kept as
// vectors.
func fixedMACKeys() macKeys {
	return macKeys{current: 0x01020304, keys: map[uint32][]byte{
		0x01020304: []byte("0123456789abcdef0123456789abcdef"),
		0xfffefdfc: []byte("fedcba9876543210fedcba9876543210"),
	}}
}

// vectors were computed by another implementation: the format must not change, because
// clients have tokens.
var vectors = map[string]token.Refresh{
	"yfr_AQECAwQBkAAAAAB8AIAAAAAAAAABAAAAAcLULxpThw97YfEAs-wi8j0rubQ_": {Session: uuid.MustParse("01900000-0000-7c00-8000-000000000001"), Generation: 1},
	"yfr_AQECAwQBl8L0ilt9Hpw_Wmt8jZ4P_____gMXiTcGDDV4yi3STIBRUZ6UPZaH": {Session: uuid.MustParse("0197c2f4-8a5b-7d1e-9c3f-5a6b7c8d9e0f"), Generation: math.MaxUint32 - 1},
}

func decodeBody(t testing.TB, s string) []byte {
	t.Helper()
	b, err := base64.RawURLEncoding.DecodeString(strings.TrimPrefix(s, token.RefreshPrefix))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func encodeBody(b []byte) string {
	return token.RefreshPrefix + base64.RawURLEncoding.EncodeToString(b)
}

func mustEncode(t testing.TB, c *token.RefreshCodec, r token.Refresh) string {
	t.Helper()
	s, err := c.Encode(r, now)
	if err != nil {
		t.Fatal(err)
	}
	return s.Reveal()
}

func wantRefused(t *testing.T, c *token.RefreshCodec, s string) {
	t.Helper()
	if r, err := c.Decode(s); !errors.Is(err, auth.RefreshInvalid) || r != (token.Refresh{}) {
		t.Errorf("Decode(%q) = %v, %v, want refresh_invalid", s, r, err)
	}
}

func TestRefreshCodec(t *testing.T) {
	t.Parallel()
	codec := token.NewRefreshCodec(fixedMACKeys())
	value := token.Refresh{Session: uuid.MustParse("01900000-0000-7c00-8000-0123456789ab"), Generation: 7}
	good := mustEncode(t, codec, value)

	t.Run("an encoded token decodes to the same values", func(t *testing.T) {
		t.Parallel()
		rapid.Check(t, func(t *rapid.T) {
			want := token.Refresh{
				Session:    uuid.UUID(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "session")),
				Generation: rapid.Uint32Range(auth.FirstGeneration, math.MaxUint32-1).Draw(t, "generation"),
			}
			s, err := codec.Encode(want, now)
			if err != nil {
				t.Fatal(err)
			}
			if len(s.Reveal()) != token.RefreshLen || !strings.HasPrefix(s.Reveal(), "yfr_") {
				t.Fatalf("Encode() returned a malformed token: %q", s.Reveal())
			}
			if got, err := codec.Decode(s.Reveal()); err != nil || got != want {
				t.Fatalf("Decode = %v, %v, want %v", got, err, want)
			}
		})
	})
	t.Run("it is 64 characters of the URL-safe alphabet", func(t *testing.T) {
		t.Parallel()
		if len(good) != 64 || token.RefreshLen != 64 {
			t.Errorf("the token has %d characters, RefreshLen = %d", len(good), token.RefreshLen)
		}
		if strings.Trim(good, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
			t.Errorf("%q needs escaping somewhere", good)
		}
	})
	t.Run("a token is a function of session and generation", func(t *testing.T) {
		t.Parallel()
		if again := mustEncode(t, codec, value); again != good {
			t.Errorf("Encode() = %q, and again %q", good, again)
		}
	})
	t.Run("the format is the one that is documented", func(t *testing.T) {
		t.Parallel()
		for s, want := range vectors {
			if got, err := codec.Decode(s); err != nil || got != want {
				t.Errorf("Decode(%q) = %v, %v, want %v", s, got, err, want)
			}
			if got := mustEncode(t, codec, want); got != s {
				t.Errorf("Encode(%v) = %q, want %q", want, got, s)
			}
		}
	})
	t.Run("every flipped bit is refused", func(t *testing.T) {
		t.Parallel()
		body := decodeBody(t, good)
		for i := range len(body) * 8 {
			bad := slices.Clone(body)
			bad[i/8] ^= 1 << (i % 8)
			wantRefused(t, codec, encodeBody(bad))
		}
	})
	t.Run("every other byte in any place is refused", func(t *testing.T) {
		t.Parallel()
		for i := range len(good) {
			for c := range 256 {
				if byte(c) == good[i] {
					continue
				}
				wantRefused(t, codec, good[:i]+string([]byte{byte(c)})+good[i+1:])
			}
		}
	})
	t.Run("nothing may be added or left out", func(t *testing.T) {
		t.Parallel()
		for i := range len(good) + 1 {
			for _, more := range []string{"A", "=", " ", "\n", "\r\n", "\x00", "%0A", "-", good} {
				wantRefused(t, codec, good[:i]+more+good[i:])
			}
			if i < len(good) {
				wantRefused(t, codec, good[:i])
				wantRefused(t, codec, good[i+1:])
				wantRefused(t, codec, good[:i]+good[i+1:])
				// A line break in the place of a character keeps the length.
				wantRefused(t, codec, good[:i]+"\n"+good[i+1:])
			}
		}
	})
	t.Run("other spellings of the same bytes are refused", func(t *testing.T) {
		t.Parallel()
		body := decodeBody(t, good)
		for _, bad := range []string{
			strings.ToUpper(good), strings.ToLower(good), strings.ToUpper(good[:4]) + good[4:],
			token.RefreshPrefix + base64.StdEncoding.EncodeToString(append([]byte{0xff, 0xff, 0xff}, body[3:]...)),
			token.RefreshPrefix + base64.URLEncoding.EncodeToString(body) + "====",
			good[4:], "yfk_" + good[4:], "Bearer " + good, "",
			token.RefreshPrefix, strings.Repeat("\n", 64), token.RefreshPrefix + strings.Repeat("\n", 60), token.RefreshPrefix + strings.Repeat("A", 60),
			strings.Repeat("A", 1<<20),
		} {
			wantRefused(t, codec, bad)
		}
	})
	t.Run("generations without a successor or that were never given are refused", func(t *testing.T) {
		t.Parallel()
		for _, g := range []uint32{0, math.MaxUint32} {
			wantRefused(t, codec, mustEncode(t, codec, token.Refresh{Session: value.Session, Generation: g}))
		}
		for _, g := range []uint32{1, math.MaxUint32 - 1} {
			if _, err := codec.Decode(mustEncode(t, codec, token.Refresh{Session: value.Session, Generation: g})); err != nil {
				t.Errorf("generation %d: Encode() error = %v", g, err)
			}
		}
	})
	t.Run("without a current key nothing is encoded", func(t *testing.T) {
		t.Parallel()
		if s, err := token.NewRefreshCodec(macKeys{}).Encode(value, now); s != "" || !errors.Is(err, errNoKey) {
			t.Errorf("Encode = %q, %v", s.Reveal(), err)
		}
	})
}

func TestRefreshCodecKeys(t *testing.T) {
	t.Parallel()
	keys := fixedMACKeys()
	first := token.NewRefreshCodec(keys)
	value := token.Refresh{Session: uuid.MustParse("01900000-0000-7c00-8000-0123456789ab"), Generation: 7}
	good := mustEncode(t, first, value)

	t.Run("a token of the previous key is valid while the key is", func(t *testing.T) {
		t.Parallel()
		rotated := token.NewRefreshCodec(macKeys{current: 0xfffefdfc, keys: keys.keys})
		if got, err := rotated.Decode(good); err != nil || got != value {
			t.Errorf("Decode = %v, %v", got, err)
		}
		if mustEncode(t, rotated, value) == good {
			t.Error("the new key yields the same token as the old one")
		}
	})
	t.Run("a token of a key that is gone is refused", func(t *testing.T) {
		t.Parallel()
		rest := maps.Clone(keys.keys)
		delete(rest, keys.current)
		wantRefused(t, token.NewRefreshCodec(macKeys{current: 0xfffefdfc, keys: rest}), good)
		wantRefused(t, token.NewRefreshCodec(macKeys{}), good)
	})
	t.Run("a token under the name of another key is refused", func(t *testing.T) {
		t.Parallel()
		body := decodeBody(t, good)
		binary.BigEndian.PutUint32(body[1:], 0xfffefdfc)
		wantRefused(t, first, encodeBody(body))
	})
	t.Run("a token of another server with the same key id is refused", func(t *testing.T) {
		t.Parallel()
		other := token.NewRefreshCodec(macKeys{current: keys.current, keys: map[uint32][]byte{keys.current: []byte("another key of thirty-two bytes!")}})
		wantRefused(t, other, good)
		wantRefused(t, first, mustEncode(t, other, value))
	})
	t.Run("a MAC made for another purpose with the same key is refused", func(t *testing.T) {
		t.Parallel()
		body := decodeBody(t, good)
		head := body[:25]
		for _, domain := range []string{"", "yufu refresh token", "yufu something else\x00"} {
			m := hmac.New(sha256.New, keys.keys[keys.current])
			m.Write([]byte(domain))
			m.Write(head)
			wantRefused(t, first, encodeBody(append(slices.Clone(head), m.Sum(nil)[:20]...)))
		}
		m := hmac.New(sha256.New, keys.keys[keys.current])
		m.Write([]byte("yufu refresh token\x00"))
		m.Write(head)
		if encodeBody(append(slices.Clone(head), m.Sum(nil)[:20]...)) != good {
			t.Error("this test does not know how a MAC is made, so it shows nothing")
		}
	})
	t.Run("the MAC of an empty key is refused", func(t *testing.T) {
		t.Parallel()
		empty := token.NewRefreshCodec(macKeys{current: 9, keys: map[uint32][]byte{9: {}}})
		wantRefused(t, first, mustEncode(t, empty, value))
	})
}

// FuzzRefreshDecode checks that encoding a decoded token yields the same bytes: there is
// one token for each session, generation and key, and it cannot be made without the key.
func FuzzRefreshDecode(f *testing.F) {
	keys := fixedMACKeys()
	codec := token.NewRefreshCodec(keys)
	f.Fuzz(func(t *testing.T, s string) {
		r, err := codec.Decode(s)
		if err != nil {
			if !errors.Is(err, auth.RefreshInvalid) || r != (token.Refresh{}) {
				t.Fatalf("Decode(%q) = %v, %v", s, r, err)
			}
			return
		}
		id := binary.BigEndian.Uint32(decodeBody(t, s)[1:])
		signer := token.NewRefreshCodec(macKeys{current: id, keys: keys.keys})
		if again := mustEncode(t, signer, r); again != s {
			t.Fatalf("Decode(%q) = %v, which encodes to %q", s, r, again)
		}
	})
}

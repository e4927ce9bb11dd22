package token

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"math"
	"time"

	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/pkg/auth"
)

// RefreshPrefix starts every refresh token, so that secret scanners find
// leaked ones.
const RefreshPrefix = "yfr_"

// The layout of a refresh token before base64url. 45 bytes fill 60 characters
// exactly, so there are no spare bits and decoding then encoding is identical.
const (
	refreshFormat  = 0x01
	offMACKey      = 1
	offSession     = offMACKey + 4
	offGeneration  = offSession + 16
	offMAC         = offGeneration + 4
	refreshMACSize = 20
	refreshSize    = offMAC + refreshMACSize
)

// RefreshLen is the length of every refresh token, in characters.
var RefreshLen = len(RefreshPrefix) + base64.RawURLEncoding.EncodedLen(refreshSize)

// refreshDomain separates these MACs from any other use of the key.
const refreshDomain = "yufu refresh token\x00"

// MACKeys provides the keys that authenticate refresh tokens.
type MACKeys interface {
	// CurrentMACKey returns the key that signs new tokens at now.
	CurrentMACKey(now time.Time) (id uint32, key []byte, err error)
	// MACKey returns a key that is still valid, or false. It does no I/O.
	MACKey(id uint32) (key []byte, ok bool)
}

// Refresh is the content of a refresh token.
type Refresh struct {
	Session    uuid.UUID
	Generation uint32
}

// RefreshCodec encodes and decodes refresh tokens. It is safe for concurrent
// use.
type RefreshCodec struct {
	keys MACKeys
}

// NewRefreshCodec returns a codec over the given keys.
func NewRefreshCodec(keys MACKeys) *RefreshCodec { return &RefreshCodec{keys: keys} }

// Encode returns the refresh token of a session's generation, signed with the
// key that is current at now.
func (c *RefreshCodec) Encode(r Refresh, now time.Time) (auth.Secret, error) {
	id, key, err := c.keys.CurrentMACKey(now)
	if err != nil {
		return "", err
	}
	var b [refreshSize]byte
	b[0] = refreshFormat
	binary.BigEndian.PutUint32(b[offMACKey:], id)
	copy(b[offSession:], r.Session[:])
	binary.BigEndian.PutUint32(b[offGeneration:], r.Generation)
	copy(b[offMAC:], refreshMAC(key, b[:offMAC]))
	return auth.Secret(RefreshPrefix + base64.RawURLEncoding.EncodeToString(b[:])), nil
}

// Decode returns the content of a refresh token, or [auth.RefreshInvalid] if a single bit
// differs from a token of ours. It uses no database.
func (c *RefreshCodec) Decode(s string) (Refresh, error) {
	if len(s) != RefreshLen || s[:len(RefreshPrefix)] != RefreshPrefix {
		return Refresh{}, auth.RefreshInvalid
	}
	// Decoding skips line breaks. Because the length of a token is fixed, the check of
	// the decoded length detects them.
	b, err := base64.RawURLEncoding.Strict().DecodeString(s[len(RefreshPrefix):])
	if err != nil || len(b) != refreshSize || b[0] != refreshFormat {
		return Refresh{}, auth.RefreshInvalid
	}
	key, ok := c.keys.MACKey(binary.BigEndian.Uint32(b[offMACKey:]))
	if !ok || !hmac.Equal(b[offMAC:], refreshMAC(key, b[:offMAC])) {
		return Refresh{}, auth.RefreshInvalid
	}
	r := Refresh{
		Session:    uuid.UUID(b[offSession:offGeneration]),
		Generation: binary.BigEndian.Uint32(b[offGeneration:]),
	}
	// The last generation has no successor. No user reaches it: that takes four billion
	// refreshes.
	if r.Generation < auth.FirstGeneration || r.Generation == math.MaxUint32 {
		return Refresh{}, auth.RefreshInvalid
	}
	return r, nil
}

// refreshMAC returns the truncated MAC of a token's head, which includes the id of the
// key.
func refreshMAC(key, head []byte) []byte {
	m := hmac.New(sha256.New, key)
	m.Write([]byte(refreshDomain))
	m.Write(head)
	return m.Sum(nil)[:refreshMACSize]
}

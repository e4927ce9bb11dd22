package keyring

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"
)

// without returns the snapshot without the keys that are retired in the store. New keys
// of the store are not added.
func (s *snapshot) without(stored []StoredKey) (*snapshot, error) {
	retired := make(map[string]time.Time)
	for i := range stored {
		if k := &stored[i]; !k.RetiredAt.IsZero() {
			retired[k.KID] = k.RetiredAt
		}
	}
	left := &snapshot{verify: maps.Clone(s.verify), macByID: maps.Clone(s.macByID)}
	set := jwkSet{Keys: []JWK{}}
	for _, k := range s.rows {
		at, gone := retired[k.KID]
		switch {
		case gone:
			k.RetiredAt = at
			delete(left.verify, k.KID)
		case k.RetiredAt.IsZero() && k.Use == UseAccess:
			// It was compared with the private key when the ring opened.
			var jwk JWK
			if err := json.Unmarshal(k.Public, &jwk); err != nil {
				return nil, fmt.Errorf("keyring: key %s: the public key in memory: %w", k.KID, err)
			}
			set.Keys = append(set.Keys, jwk)
		}
		left.rows = append(left.rows, k)
	}
	left.signing = slices.DeleteFunc(slices.Clone(s.signing), func(k signingKey) bool {
		_, gone := retired[k.KID]
		return gone
	})
	left.mac = slices.DeleteFunc(slices.Clone(s.mac), func(k macKey) bool {
		_, gone := retired[macKID(k.id)]
		return gone
	})
	maps.DeleteFunc(left.macByID, func(id uint32, _ []byte) bool {
		_, gone := retired[macKID(id)]
		return gone
	})
	return left, left.publish(set)
}

// macKID returns the KID of a MAC key.
func macKID(id uint32) string {
	return hex.EncodeToString([]byte{byte(id >> 24), byte(id >> 16), byte(id >> 8), byte(id)})
}

package session

import "github.com/yufu-auth/yufu/pkg/seal"

// SessionKeyAAD is the associated data that an identity's session_key is
// sealed with.
func SessionKeyAAD(appID, openID string) []byte {
	return seal.AAD("identities", "sealed_session_key", appID, openID)
}

package session

import "github.com/yufu-auth/yufu/pkg/seal"

// AppSecretAAD is the associated data that an app's AppSecret is sealed with.
func AppSecretAAD(appID string) []byte { return seal.AAD("apps", "sealed_secret", appID) }

// SessionKeyAAD is the associated data that an identity's session_key is
// sealed with.
func SessionKeyAAD(appID, openID string) []byte {
	return seal.AAD("identities", "sealed_session_key", appID, openID)
}

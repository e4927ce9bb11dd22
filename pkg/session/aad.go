package session

import (
	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/seal"
)

// SessionKeyAAD returns the associated data with which an identity's session_key is
// sealed.
func SessionKeyAAD(appID string, account auth.PlatformAccount) []byte {
	return seal.AAD("identities", "sealed_session_key", appID, account.SubjectKind, account.Subject)
}

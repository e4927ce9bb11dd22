package app

import (
	"fmt"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/platform"
	"github.com/yufu-auth/yufu/pkg/seal"
)

// Credentials opens the credentials of an app for its platform.
//
// Errors: [auth.PlatformMisconfigured] for a credential that does not open.
func Credentials(sealer *seal.Ring, a *auth.App) (platform.Credentials, error) {
	c := platform.Credentials{AppID: a.ID, Secrets: make(map[string]auth.Secret, len(a.SealedCredentials))}
	for name, sealed := range a.SealedCredentials {
		secret, err := sealer.Open(sealed, CredentialAAD(a.ID, name))
		if err != nil {
			return platform.Credentials{}, &auth.Error{Code: auth.PlatformMisconfigured, Err: fmt.Errorf("app %s: open the credential %s: %w", a.ID, name, err)}
		}
		c.Secrets[name] = auth.Secret(secret)
	}
	return c, nil
}

package keyring

import (
	"time"

	"github.com/yufu-auth/yufu/pkg/token"
)

// CurrentAge returns how long the key that signs now for the use has been
// signing: for access tokens the one of the default algorithm. It is zero when
// there is none, and never negative.
func (r *Ring) CurrentAge(use Use, now time.Time) time.Duration {
	var since time.Time
	s := r.keys.Load()
	switch use {
	case UseAccess:
		if k := currentSigning(s.signing, token.DefaultAlg, now); k != nil {
			since = k.activeAt
		}
	case UseRefresh:
		if k := currentMAC(s.mac, now); k != nil {
			since = k.activeAt
		}
	}
	if since.IsZero() {
		return 0
	}
	return max(now.Sub(since), 0)
}

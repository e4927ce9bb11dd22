package keyring

import (
	"slices"
	"time"

	"github.com/yufu-auth/yufu/pkg/auth"
)

// never is the ActiveAt of a next key in the ring: it signs only when no other key of
// its kind is left that may.
var never = time.Unix(1<<40, 0)

func activeAt(k *StoredKey) time.Time {
	if k.ActiveAt.IsZero() {
		return never
	}
	return k.ActiveAt
}

// Distrust tells the ring which signing keys a cutoff hits. It does not sign with them,
// and retires those again that are not retired in the database. It is called before
// the ring is used by more than one goroutine.
func (r *Ring) Distrust(hit func(kid string) bool) { r.hit = hit }

func (r *Ring) distrusts(kid string) bool { return r.hit != nil && r.hit(kid) }

// remember notes which keys are retired. It returns the keys with all those retired that
// ever were, also if the database lost that.
func (r *Ring) remember(stored []StoredKey) []StoredKey {
	stored = slices.Clone(stored)
	if r.retired == nil {
		r.retired = map[string]time.Time{}
	}
	for i := range stored {
		k := &stored[i]
		if !k.RetiredAt.IsZero() {
			r.retired[k.KID] = k.RetiredAt
		} else if at, was := r.retired[k.KID]; was {
			k.RetiredAt, k.Sealed = at, nil
		}
	}
	return stored
}

// forgot reports whether the database has lost the end of a key that this replica
// remembers as retired.
func (r *Ring) forgot() bool {
	s := r.keys.Load()
	return s.forgotten || slices.ContainsFunc(s.rows, func(k StoredKey) bool {
		return k.RetiredAt.IsZero() && r.distrusts(k.KID)
	})
}

// restore retires again what this replica remembers as retired. The epochs that ended
// the sessions of a MAC key that had leaked are restored with those of other causes.
func (p *plan) restore() error {
	for _, k := range slices.Clone(p.keys) {
		_, was := p.ring.retired[k.KID]
		compromised := k.Use == UseAccess && p.ring.distrusts(k.KID)
		if !k.RetiredAt.IsZero() || !was && !compromised {
			continue
		}
		of := kind{k.Use, k.Alg}
		again := p.find(k.KID)
		signs := again == p.line(of).current(p.now)
		again.RetiredAt, again.Sealed = p.now, nil
		p.restored = append(p.restored, k.KID)
		detail := map[string]any{}
		if compromised {
			detail["compromised"] = true
			p.change.Compromised = append(p.change.Compromised, k.KID)
		}
		p.record(auth.AuditStoreRolledBack, again, detail)
		if signs {
			if err := p.succeed(of); err != nil {
				return err
			}
		}
	}
	return nil
}

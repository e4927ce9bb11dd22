package keyring

import (
	"slices"
	"time"

	"github.com/yufu-auth/yufu/pkg/auth"
)

// notScheduled is the ActiveAt of a next key in the ring. Such a key signs only when no
// other key of its kind may.
var notScheduled = time.Unix(1<<40, 0)

func activeAt(k *StoredKey) time.Time {
	if k.ActiveAt.IsZero() {
		return notScheduled
	}
	return k.ActiveAt
}

// Distrust tells the ring which signing keys a cutoff hits. It does not sign with them,
// and retires those again that are not retired in the database. It is called before
// the ring is used by more than one goroutine.
func (r *Ring) Distrust(hit func(kid string) bool) { r.hasCutoff = hit }

func (r *Ring) distrusts(kid string) bool { return r.hasCutoff != nil && r.hasCutoff(kid) }

// mergeRetired remembers which keys are retired. It returns the keys, retired where this
// ring has ever seen them retired, also if the database lost that.
func (r *Ring) mergeRetired(stored []StoredKey) []StoredKey {
	stored = slices.Clone(stored)
	if r.retired == nil {
		r.retired = map[string]time.Time{}
	}
	for i := range stored {
		k := &stored[i]
		if !k.RetiredAt.IsZero() {
			r.retired[k.KID] = k.RetiredAt
		} else if at, remembered := r.retired[k.KID]; remembered {
			k.RetiredAt, k.Sealed = at, nil
		}
	}
	return stored
}

// lostRetirement reports whether the database has lost the retirement of a key that this
// replica remembers.
func (r *Ring) lostRetirement() bool {
	s := r.keys.Load()
	return s.lostRetirement || slices.ContainsFunc(s.rows, func(k StoredKey) bool {
		return k.RetiredAt.IsZero() && r.distrusts(k.KID)
	})
}

// retireAgain retires the keys that this replica remembers as retired. The epochs that ended
// the sessions of a MAC key that had leaked are restored with those of other causes.
func (p *plan) retireAgain() error {
	for _, k := range slices.Clone(p.keys) {
		_, remembered := p.ring.retired[k.KID]
		compromised := k.Use == UseAccess && p.ring.distrusts(k.KID)
		if !k.RetiredAt.IsZero() || !remembered && !compromised {
			continue
		}
		of := kind{k.Use, k.Alg}
		stored := p.find(k.KID)
		signs := stored == p.sequence(of).current(p.now)
		stored.RetiredAt, stored.Sealed = p.now, nil
		p.retiredAgain = append(p.retiredAgain, k.KID)
		detail := map[string]any{}
		if compromised {
			detail["compromised"] = true
			p.change.Compromised = append(p.change.Compromised, k.KID)
		}
		p.recordEvent(auth.AuditStoreRolledBack, stored, detail)
		if signs {
			if err := p.promoteSuccessor(of); err != nil {
				return err
			}
		}
	}
	return nil
}

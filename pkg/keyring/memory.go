package keyring

import (
	"slices"
	"time"

	"github.com/yufu-auth/yufu/pkg/auth"
)

// notScheduled is the ActiveAt of a next key in the ring. Such a key signs only if no
// other key of its kind may sign.
var notScheduled = time.Unix(1<<40, 0)

func activeAt(k *StoredKey) time.Time {
	if k.ActiveAt.IsZero() {
		return notScheduled
	}
	return k.ActiveAt
}

// SetCutoffCheck sets the function that reports whether a cutoff hits a signing key. The
// ring does not sign with such a key, and retires it again if it is not retired in the
// database. Call it before more than one goroutine uses the ring.
func (r *Ring) SetCutoffCheck(hit func(kid string) bool) { r.hasCutoff = hit }

func (r *Ring) distrusts(kid string) bool { return r.hasCutoff != nil && r.hasCutoff(kid) }

// mergeRetired remembers the retired keys. It returns the stored keys, with those marked
// as retired that this ring has ever seen retired, even if the database lost that.
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

// hasLostRetirement reports whether the database has lost the retirement of a key that
// this replica remembers.
func (r *Ring) hasLostRetirement() bool {
	s := r.keys.Load()
	return s.lostRetirement || slices.ContainsFunc(s.rows, func(k StoredKey) bool {
		return k.RetiredAt.IsZero() && r.distrusts(k.KID)
	})
}

// retireAgain retires the keys that this replica remembers as retired. When a MAC key had
// leaked, sessions ended by raised epochs; these are restored with all other epochs.
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

package keyring

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/token"
)

// plan collects one change of the keys.
type plan struct {
	ring   *Ring
	policy Policy
	now    time.Time
	// event says who makes the change and why, for the audit trail.
	event  auth.AuditEvent
	keys   []StoredKey // after the change
	change Change
	// retiredAgain are the keys whose retirement the database had lost.
	retiredAgain []string
}

// change makes one change of the stored keys and installs the result. do plans the change
// under the lock that all replicas share.
func (r *Ring) change(ctx context.Context, p Policy, now time.Time, by auth.AuditEvent, do func(*plan) error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	by.At = now
	stored, err := r.store.ChangeKeys(ctx, now, func(existing []StoredKey) (Change, error) {
		// A key sealed with the wrong master key would lock out replicas with the right
		// one, so the stored keys must open first.
		if _, err := r.open(existing); err != nil {
			return Change{}, err
		}
		pl := &plan{ring: r, policy: p, now: now, event: by, keys: slices.Clone(existing)}
		if err := pl.retireAgain(); err != nil {
			return Change{}, err
		}
		if err := do(pl); err != nil {
			return Change{}, err
		}
		return pl.changes(existing), nil
	})
	if err != nil {
		return err
	}
	// The ring no longer has the keys of this version: if the database returns to it,
	// they must be read again.
	r.version = ""
	return r.install(stored)
}

// changes returns the change that the store has to write, given its existing keys.
func (p *plan) changes(existing []StoredKey) Change {
	before := make(map[string]*StoredKey, len(existing))
	for i := range existing {
		before[existing[i].KID] = &existing[i]
	}
	for _, k := range p.keys {
		switch old := before[k.KID]; {
		case old == nil:
			p.change.Add = append(p.change.Add, k)
		case !old.ActiveAt.Equal(k.ActiveAt), !old.RetiredAt.Equal(k.RetiredAt):
			p.change.Update = append(p.change.Update, k)
		}
	}
	return p.change
}

// recordEvent adds an audit event about a key.
func (p *plan) recordEvent(action auth.AuditAction, k *StoredKey, more map[string]any) {
	e := p.event
	e.Action = action
	e.Detail = map[string]any{"kid": k.KID, "use": string(k.Use), "alg": k.Alg}
	maps.Copy(e.Detail, more)
	p.change.Events = append(p.change.Events, e)
}

func (p *plan) sequence(of kind) sequence { return sequenceOf(p.keys, of) }

func (p *plan) find(kid string) *StoredKey {
	i := slices.IndexFunc(p.keys, func(k StoredKey) bool { return k.KID == kid })
	if i < 0 {
		return nil
	}
	return &p.keys[i]
}

// add makes a key. It invalidates pointers to keys.
func (p *plan) add(of kind, activeAt time.Time) (string, error) {
	k, err := p.ring.generate(keySpec{of, activeAt}, p.now)
	if err != nil {
		return "", err
	}
	p.keys = append(p.keys, k)
	p.recordEvent(auth.AuditKeyCreated, &k, nil)
	return k.KID, nil
}

// addMissing makes the missing keys. A key of a mandatory kind signs at once, because
// there was none before, and so does a key of a kind whose keys are all retired.
func (p *plan) addMissing() error {
	signs, next := missing(p.keys)
	for _, of := range signs {
		at := p.now
		if !slices.Contains(mandatoryKinds, of) && len(p.sequence(of)) > 0 {
			// The default algorithm signs until all validators know the key.
			at = at.Add(p.policy.JWKSMaxAge + PropagationTime)
		}
		if _, err := p.add(of, at); err != nil {
			return err
		}
	}
	for _, of := range next {
		if _, err := p.add(of, time.Time{}); err != nil {
			return err
		}
	}
	return nil
}

// promote makes a key sign from at, or from a little later if another key
// begins to sign at or after that time.
func (p *plan) promote(kid string, at time.Time) {
	k := p.find(kid)
	k.ActiveAt = p.sequence(kind{k.Use, k.Alg}).activationAfter(at, k)
	p.recordEvent(auth.AuditKeyPromoted, k, map[string]any{"active_at": k.ActiveAt})
}

// promoteNext makes the next key sign from now on.
func (p *plan) promoteNext(of kind) {
	if next := p.sequence(of).next(); next != nil {
		p.promote(next.KID, p.now)
	}
}

// markRetired marks a key as retired, and wipes its private key.
func (p *plan) markRetired(kid string, more map[string]any) {
	k := p.find(kid)
	k.RetiredAt, k.Sealed = p.now, nil
	p.recordEvent(auth.AuditKeyRetired, k, more)
}

// applyPolicy promotes and retires the keys that are due, and makes missing keys.
func (p *plan) applyPolicy() error {
	d := p.policy.due(p.keys, p.now)
	for _, of := range d.promote {
		p.promoteNext(of)
	}
	for _, kid := range d.retire {
		p.markRetired(kid, nil)
	}
	return p.addMissing()
}

// rotate promotes the next key of a kind, to sign when all validators know it, or at
// once. It returns the kid of the promoted key.
func (p *plan) rotate(of kind, atOnce bool) (string, error) {
	l := p.sequence(of)
	k := l.pending(p.now)
	if k != nil && !atOnce {
		return k.KID, nil // promoted before
	}
	if k == nil {
		if k = l.next(); k == nil {
			return "", fmt.Errorf("keyring: no next key for %s %s", of.use, of.alg)
		}
		if of.use == UseAccess && published(p.keys) >= maxPublished {
			return "", &auth.Error{Code: auth.KeyInUse, Description: fmt.Sprintf("There are already %d published keys, the most that validators read. Wait until the oldest is retired.", maxPublished)}
		}
	}
	at := p.policy.knownAt(k)
	if at.Before(p.now) || atOnce && of.use == UseAccess {
		// A MAC key always waits until the other replicas know it: a replica that does
		// not know it would refuse its tokens, and clients would lose their sessions.
		at = p.now
	}
	if at = l.activationAfter(at, k); k.ActiveAt.IsZero() || at.Before(k.ActiveAt) {
		p.promote(k.KID, at)
	}
	return k.KID, p.addMissing()
}

// published counts the signing keys in the JWK set.
func published(keys []StoredKey) (n int) {
	for i := range keys {
		if keys[i].Use == UseAccess && keys[i].RetiredAt.IsZero() {
			n++
		}
	}
	return n
}

// checkRetirable returns why a key that has not leaked cannot be retired, or nil.
func (p *plan) checkRetirable(k *StoredKey) error {
	l := p.sequence(kind{k.Use, k.Alg})
	refusal := func(format string, args ...any) error {
		return &auth.Error{Code: auth.KeyInUse, Description: fmt.Sprintf(format, args...)}
	}
	switch {
	case k.ActiveAt.IsZero():
		return nil // it has not signed
	case k == l.current(p.now):
		return refusal("The key signs now. Rotate first: it is retired automatically when the last token it signed has expired. If it has leaked, retire it now.")
	case k.ActiveAt.After(p.now.Add(PropagationTime)):
		return nil
	case k.ActiveAt.After(p.now):
		return refusal("The key is about to start signing.")
	}
	if at := l.retiresAt(p.policy, k); at.After(p.now) {
		return refusal("Tokens that the key signed may be valid until %s, when it is retired automatically. If it has leaked, retire it now.", at.UTC().Format(time.RFC3339))
	}
	return nil
}

// retire retires a key. If the key signs, another one is promoted.
func (p *plan) retire(kid string, compromised bool) error {
	k := p.find(kid)
	of := kind{k.Use, k.Alg}
	signs := k == p.sequence(of).current(p.now)
	if !compromised {
		if err := p.checkRetirable(k); err != nil {
			return err
		}
		p.markRetired(kid, nil)
		return p.addMissing()
	}
	p.markRetired(kid, map[string]any{"compromised": true})
	if of.use == UseAccess {
		p.change.Compromised = append(p.change.Compromised, kid)
	} else {
		p.change.EndSessions = true
	}
	if signs {
		if err := p.promoteSuccessor(of); err != nil {
			return err
		}
	}
	return p.addMissing()
}

// promoteSuccessor promotes a key after the current one was retired: from the time when
// every validator knows it, if another key can sign until then, otherwise from now on.
func (p *plan) promoteSuccessor(of kind) error {
	l := p.sequence(of)
	// A previous key, or one of the default algorithm.
	mayWait := l.current(p.now) != nil || of.use == UseAccess && of.alg != token.DefaultAlg
	k := l.pending(p.now)
	if k != nil && mayWait {
		return nil
	}
	if k == nil {
		k = l.next()
	}
	if k == nil {
		kid, err := p.add(of, time.Time{})
		if err != nil {
			return err
		}
		k = p.find(kid)
	}
	at := p.policy.knownAt(k)
	if !mayWait || at.Before(p.now) {
		at = p.now
	}
	p.promote(k.KID, at)
	return nil
}

package bearer

import (
	"hash/maphash"
	"strings"
	"sync/atomic"
	"time"

	"github.com/yufu-auth/yufu/pkg/bearer/cutoff"
)

// entry is a token whose signature and claims were found good. Its expiry, its
// key and the cutoffs are looked at again each time.
type entry struct {
	hash   uint64
	token  string
	claims Claims
	// target is what cutoffs of the token name.
	target cutoff.Token
	key    verificationKey
}

// cache remembers verified tokens: a table of fixed size, four slots for each
// token, read and written without locks. Only a token whose signature is good
// gets in, so no client can flush it with junk.
type cache struct {
	seed  maphash.Seed
	slots []atomic.Pointer[entry]
}

// slotsPerToken is how many slots a token can be in.
const slotsPerToken = 4

// newCache returns a cache of at least size tokens, or nil, which remembers
// nothing, when size is negative.
func newCache(size int) *cache {
	if size < 0 {
		return nil
	}
	n := slotsPerToken
	for n < size {
		n *= 2
	}
	return &cache{seed: maphash.MakeSeed(), slots: make([]atomic.Pointer[entry], n)}
}

// get returns the entry of a token, or nil.
func (c *cache) get(token string) *entry {
	if c == nil {
		return nil
	}
	hash := maphash.String(c.seed, token)
	slots := c.slotsOf(hash)
	for i := range slots {
		if e := slots[i].Load(); e != nil && e.hash == hash && e.token == token {
			return e
		}
	}
	return nil
}

// put remembers an entry: in the slot it has, in one that is empty or whose
// token has expired, or else in one of the four.
func (c *cache) put(token string, e *entry, now time.Time) {
	if c == nil {
		return
	}
	e.hash = maphash.String(c.seed, token)
	e.token = strings.Clone(token) // it may be a piece of something large
	slots := c.slotsOf(e.hash)
	victim := &slots[e.hash>>32%slotsPerToken]
	for i := range slots {
		old := slots[i].Load()
		if old != nil && old.hash == e.hash && old.token == e.token {
			victim = &slots[i]
			break
		}
		if old == nil || !now.Before(old.claims.ExpiresAt) {
			victim = &slots[i]
		}
	}
	victim.Store(e)
}

// slotsOf returns the slots that a token with this hash can be in.
func (c *cache) slotsOf(hash uint64) []atomic.Pointer[entry] {
	first := hash % uint64(len(c.slots)) &^ (slotsPerToken - 1)
	return c.slots[first : first+slotsPerToken]
}

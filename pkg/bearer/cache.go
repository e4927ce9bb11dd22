package bearer

import (
	"hash/maphash"
	"strings"
	"sync/atomic"
	"time"

	"github.com/yufu-auth/yufu/pkg/bearer/cutoff"
)

// entry is a token with a valid signature and valid claims. Its expiry, its key and the
// cutoffs are checked again each time.
type entry struct {
	hash   uint64
	token  string
	claims Claims
	// target holds the parts of the token that cutoffs look at.
	target cutoff.Token
	key    verificationKey
}

// cache holds verified tokens: a table of fixed size, four slots for each token, read and
// written without locks. Only tokens with a valid signature are stored, so no client can
// flush the cache with junk.
type cache struct {
	seed  maphash.Seed
	slots []atomic.Pointer[entry]
}

// slotsPerToken is the number of slots that a token can be in.
const slotsPerToken = 4

// newCache returns a cache of at least size tokens, or nil if size is negative. A nil
// cache stores nothing.
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

// put stores an entry: in the slot it has, in a slot that is empty or whose token has
// expired, or else in one of the four.
func (c *cache) put(token string, e *entry, now time.Time) {
	if c == nil {
		return
	}
	e.hash = maphash.String(c.seed, token)
	e.token = strings.Clone(token) // it may be part of a large string
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

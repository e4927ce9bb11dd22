package bearer

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"math/bits"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"
)

// entry is a token with a valid signature and valid claims. Its expiry, its key and the
// cutoffs are checked again each time.
type entry struct {
	claims Claims
	key    verificationKey
}

// cache remembers verified tokens by their hashes, within a bound in bytes. It is safe for
// concurrent use. A nil cache stores nothing.
//
// The hash is the whole SHA-256 of the whole token, with its signature. So an entry answers
// only for the very bytes that were verified: to have another token accepted, an attacker
// would have to find a second preimage. The signature is part of it because a token whose
// signature differs was not verified.
//
// Only tokens with a valid signature are stored, so a client that sends junk evicts no token.
// A client that fills the memory needs a log-in or a refresh for every two entries: an ECDSA
// signature (r, s) has the twin (r, n-s), so each token has a second text that is accepted.
// An evicted token costs only one more check of its signature.
//
// An entry has no pointers, and the garbage collector does not scan it. What many tokens
// share is stored once ([family]). What is their own is read from the presented token, which
// has the same bytes.
type cache struct {
	bytes int // the bound
	// now is read without a lock. mu is held to add a family to it, or to replace it when its
	// families are too large.
	now atomic.Pointer[generation]
	mu  sync.Mutex
}

// generation is a set of families and the tokens of these families.
type generation struct {
	shards []cacheShard
	// families are read without a lock. One is appended before the first slot that names it.
	families atomic.Pointer[[]family]
	// The other fields are guarded by [cache.mu].
	index       map[string]uint32
	familyBytes int       // the size of families and index
	since       time.Time // when it got its first family
}

// family holds the claims that tokens of an app share, and the key that signed them. There
// is a new one when an app, its audiences, its epoch or the signing key changes.
type family struct {
	app      string
	epoch    int64
	audience []string
	keyID    string
	key      verificationKey
}

// Families may take one part in familyShare of the memory. When there is no room for one
// more, the cache starts a new generation, without the families of old epochs and keys, but
// only if the current one is older than minGeneration. So with too many apps it still
// remembers the tokens of some of them.
const (
	familyShare   = 8
	minGeneration = maxLifetime // its first tokens have expired
)

// slot is what is kept of a token besides the first 8 bytes of its hash. A slot of family 0
// is empty.
type slot struct {
	hash   [sha256.Size - 8]byte
	own    [ownClaims]part
	issued uint32 // seconds since 1970
	ver    int64
	family uint32
	life   uint16 // seconds
}

// ownClaims is the number of claims that are read from the token: sub, sid, person, jti and
// external_id.
const ownClaims = 5

// part is where a JSON string is in the payload, with its quotes. A claim that the token
// does not have has the size 0.
type part struct{ offset, size uint16 }

func (s *slot) expires() int64 { return int64(s.issued) + int64(s.life) }

// A token can be in the slots of two buckets.
const (
	bucketSlots = 8
	slotBytes   = 8 + int(unsafe.Sizeof(slot{}))
	bucketBytes = bucketSlots * slotBytes
	// maxShards is the number of locks, so that validators on many cores do not wait for
	// one another.
	maxShards = 64
)

// cacheShard is a table that doubles when both buckets of a token are full, up to a number of
// buckets.
type cacheShard struct {
	mu   sync.RWMutex
	tags []uint64 // the first 8 bytes of each slot's hash
	// slots has as many elements as tags.
	slots      []slot
	maxBuckets int
	// Padding that puts the next shard's lock on another cache line.
	_ [64]byte
}

// newCache returns a cache of size bytes, or nil if size is negative: the tables take 7/8 of
// it at most, and the families 1/8. It has at least one bucket and one family. While a shard
// grows, it has its old table too, which is half as large as the new one, and which the
// garbage collector frees later.
func newCache(size int) *cache {
	if size < 0 {
		return nil
	}
	c := &cache{bytes: size}
	c.now.Store(newGeneration(size))
	return c
}

func newGeneration(size int) *generation {
	buckets := max((size-size/familyShare)/bucketBytes, 1)
	g := &generation{shards: make([]cacheShard, min(buckets, maxShards)), index: map[string]uint32{}}
	for i := range g.shards {
		g.shards[i].maxBuckets = buckets / len(g.shards)
		g.shards[i].resize(1)
	}
	g.families.Store(&[]family{{}}) // no token is of family 0
	return g
}

// get returns the entry of a token of the issuer, or nil.
func (c *cache) get(token, issuer string) *entry {
	if c == nil || len(token) > maxToken {
		return nil
	}
	var few [1 << 10]byte // enough for a usual token
	raw := append(few[:0], token...)
	g, hash := c.now.Load(), sha256.Sum256(raw)
	s, ok := g.shardOf(hash).find(hash)
	if !ok {
		return nil
	}
	return g.entry(&s, raw, issuer)
}

// put stores an entry of the issuer's token.
func (c *cache) put(token string, e *entry, now time.Time) {
	if c == nil {
		return
	}
	raw := []byte(token)
	s, ok := newSlot(raw, &e.claims)
	if !ok {
		return
	}
	g, family := c.familyOf(e, now)
	if family == 0 {
		return
	}
	s.family = family
	// What is read back must be what was verified.
	if back := g.entry(&s, raw, e.claims.Issuer); back == nil || !back.claims.equal(&e.claims) {
		return
	}
	hash := sha256.Sum256(raw)
	g.shardOf(hash).put(hash, &s, now.Unix())
}

// newSlot returns the slot of a token, without its hash and its family. It returns false for
// a token that does not fit.
func newSlot(token []byte, c *Claims) (s slot, ok bool) {
	payload, err := base64.RawURLEncoding.AppendDecode(nil, payloadOf(token))
	issued, life := c.IssuedAt.Unix(), c.ExpiresAt.Unix()-c.IssuedAt.Unix()
	if err != nil || len(payload) > math.MaxUint16 || issued < 0 || issued > math.MaxUint32 || life < 0 || life > math.MaxUint16 {
		return slot{}, false
	}
	s.ver, s.issued, s.life = c.Ver, uint32(issued), uint16(life)
	for i, text := range c.own() {
		if text == "" {
			continue
		}
		quoted, err := json.Marshal(text)
		at := bytes.Index(payload, quoted)
		if err != nil || at < 0 {
			return slot{}, false
		}
		s.own[i] = part{uint16(at), uint16(len(quoted))} //nolint:gosec // within the payload, which is shorter
	}
	return s, true
}

// own returns the claims that are read from the token.
func (c *Claims) own() [ownClaims]string {
	return [ownClaims]string{c.Subject, c.Session, c.Person, c.ID, c.ExternalID}
}

// entry returns the entry of a slot and the token that it is about, or nil for a token of
// another issuer.
func (g *generation) entry(s *slot, token []byte, issuer string) *entry {
	payload := payloadOf(token)
	var few [256]byte // enough for usual claims
	all, ends := few[:0], [ownClaims]int{}
	for i, p := range s.own {
		begin, end := int(p.offset)/3*4, min((int(p.offset)+int(p.size)+2)/3*4, len(payload))
		kept := len(all)
		decoded, err := base64.RawURLEncoding.AppendDecode(all, payload[begin:max(begin, end)])
		from := kept + int(p.offset)%3
		if err != nil || p.size > 0 && len(decoded) < from+int(p.size) {
			return nil
		}
		if p.size > 0 {
			quoted := decoded[from : from+int(p.size)]
			if bytes.IndexByte(quoted, '\\') < 0 {
				all = append(decoded[:kept], quoted[1:len(quoted)-1]...) //nolint:gocritic // decoded continues all
			} else {
				text, ok := textOf(quoted)
				if !ok {
					return nil
				}
				all = append(decoded[:kept], text...) //nolint:gocritic // decoded continues all
			}
		}
		ends[i] = len(all)
	}
	text := string(all)
	f := &(*g.families.Load())[s.family]
	return &entry{key: f.key, claims: Claims{
		Issuer: issuer, Audience: slices.Clone(f.audience), App: f.app, Epoch: f.epoch, KeyID: f.keyID,
		Subject: text[:ends[0]], Session: text[ends[0]:ends[1]], Person: text[ends[1]:ends[2]],
		ID: text[ends[2]:ends[3]], ExternalID: text[ends[3]:ends[4]],
		Bound: s.own[2].size > 0, Ver: s.ver,
		IssuedAt: time.Unix(int64(s.issued), 0).UTC(), ExpiresAt: time.Unix(s.expires(), 0).UTC(),
	}}
}

func (c *Claims) equal(d *Claims) bool {
	return c.Issuer == d.Issuer && slices.Equal(c.Audience, d.Audience) && c.App == d.App && c.KeyID == d.KeyID && c.own() == d.own() &&
		c.Bound == d.Bound && c.Ver == d.Ver && c.Epoch == d.Epoch && c.IssuedAt.Equal(d.IssuedAt) && c.ExpiresAt.Equal(d.ExpiresAt)
}

// payloadOf returns the second of the three parts of a token.
func payloadOf(token []byte) []byte {
	first, last := bytes.IndexByte(token, '.'), bytes.LastIndexByte(token, '.')
	return token[first+1 : max(first+1, last)]
}

// familyOf returns the family of an entry and its generation, or 0 if there is no room for
// the family.
func (c *cache) familyOf(e *entry, now time.Time) (*generation, uint32) {
	name := fmt.Sprintf("%q %d %q %q", e.claims.App, e.claims.Epoch, e.claims.KeyID, e.claims.Audience)
	c.mu.Lock()
	defer c.mu.Unlock()
	g := c.now.Load()
	if i, known := g.index[name]; known && (*g.families.Load())[i].key.equal(e.key) {
		return g, i
	}
	size := familyBytes(name, len(e.claims.Audience))
	if g.familyBytes > 0 && g.familyBytes+size > c.bytes/familyShare {
		if now.Sub(g.since) < minGeneration {
			return g, 0
		}
		g = newGeneration(c.bytes)
		c.now.Store(g)
	}
	if g.familyBytes == 0 {
		g.since = now
	}
	g.familyBytes += size
	return g, g.add(name, e)
}

// familyBytes returns the size of a family: in a slice with as much to spare, in the index,
// and its strings, which name contains.
func familyBytes(name string, audiences int) int {
	const indexed = 64
	return 2*int(unsafe.Sizeof(family{})) + indexed + 2*len(name) + audiences*int(unsafe.Sizeof(name))
}

// add adds the family of an entry.
func (g *generation) add(name string, e *entry) uint32 {
	f := family{app: strings.Clone(e.claims.App), epoch: e.claims.Epoch, keyID: strings.Clone(e.claims.KeyID), key: e.key}
	for _, audience := range e.claims.Audience {
		f.audience = append(f.audience, strings.Clone(audience))
	}
	// Readers of the old slice do not see the new element, also if it has the same array.
	all := *g.families.Load()
	all = append(all, f)
	i := uint32(len(all) - 1) //nolint:gosec // 2^32 families do not fit into memory
	g.families.Store(&all)
	g.index[name] = i
	return i
}

func (g *generation) shardOf(hash [sha256.Size]byte) *cacheShard {
	return &g.shards[int(hash[sha256.Size-1])%len(g.shards)]
}

// find returns the slot of a hash.
func (sh *cacheShard) find(hash [sha256.Size]byte) (slot, bool) {
	tag := binary.BigEndian.Uint64(hash[:])
	sh.mu.RLock()
	defer sh.mu.RUnlock()
	for _, first := range sh.bucketsOf(tag) {
		for i := first; i < first+bucketSlots; i++ {
			if sh.tags[i] == tag && sh.slots[i].hash == [sha256.Size - 8]byte(hash[8:]) && sh.slots[i].family != 0 {
				return sh.slots[i], true
			}
		}
	}
	return slot{}, false
}

// put stores a slot: in the slot of its token, in one that is empty or has expired, or else
// in the one that expires first, after the table has grown as far as it may.
func (sh *cacheShard) put(hash [sha256.Size]byte, s *slot, now int64) {
	tag := binary.BigEndian.Uint64(hash[:])
	s.hash = [sha256.Size - 8]byte(hash[8:])
	sh.mu.Lock()
	defer sh.mu.Unlock()
	i, free := sh.placeOf(tag, s, now)
	for !free && sh.buckets() < sh.maxBuckets {
		sh.grow(now)
		i, free = sh.placeOf(tag, s, now)
	}
	sh.tags[i], sh.slots[i] = tag, *s
}

// placeOf returns where a slot is stored, and whether no live token of another hash is there:
// in the bucket with more room.
func (sh *cacheShard) placeOf(tag uint64, s *slot, now int64) (place int, free bool) {
	buckets, most := sh.bucketsOf(tag), 0
	place = buckets[0]
	for _, first := range buckets {
		room := 0
		for i := first; i < first+bucketSlots; i++ {
			old := &sh.slots[i]
			switch {
			case sh.tags[i] == tag && old.hash == s.hash && old.family != 0:
				return i, true
			case old.family == 0 || old.expires() <= now:
				if room++; room > most {
					place, most = i, room
				}
			case most == 0 && old.expires() < sh.slots[place].expires():
				place = i
			}
		}
	}
	return place, most > 0
}

// grow doubles the table and keeps the live tokens.
func (sh *cacheShard) grow(now int64) {
	tags, slots := sh.tags, sh.slots
	sh.resize(min(2*sh.buckets(), sh.maxBuckets))
	for i := range slots {
		if slots[i].family != 0 && slots[i].expires() > now {
			place, _ := sh.placeOf(tags[i], &slots[i], now)
			sh.tags[place], sh.slots[place] = tags[i], slots[i]
		}
	}
}

func (sh *cacheShard) buckets() int { return len(sh.slots) / bucketSlots }

func (sh *cacheShard) resize(buckets int) {
	sh.tags, sh.slots = make([]uint64, buckets*bucketSlots), make([]slot, buckets*bucketSlots)
}

// bucketsOf returns the first slots of the two buckets of a tag. With two to choose from, a
// table is nearly full before both are.
func (sh *cacheShard) bucketsOf(tag uint64) [2]int {
	buckets := uint64(sh.buckets()) //nolint:gosec // not negative
	one, _ := bits.Mul64(tag, buckets)
	two, _ := bits.Mul64(bits.RotateLeft64(tag, 32), buckets)
	return [2]int{int(one) * bucketSlots, int(two) * bucketSlots} //nolint:gosec // the high word is below the number of buckets
}

// Package shard decides in which shard an account's rows are, and writes the number into
// the ids of the rows.
//
// A shard is a number from 0 to 1023. It follows from the account (appid, subject kind and
// subject) by a MAC under a key of the deployment. The last ten bits of the identity's uuid
// and of the ids of its sessions repeat it. So the shard is known from an account, from a
// uuid and from a session id, which a refresh token contains. A database that spreads the
// rows over partitions or servers by shard needs to search only one of them.
//
// The key is made with the tables and never changes: with another key a known account would
// have another shard, and would get a second identity there. A key keeps clients from
// choosing accounts that are all in one shard.
//
// It owns the key, the numbers and the form of the ids. The stores own the rows.
package shard

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/seal"
)

// Count is the number of shards.
const Count = 1024

// Of returns the shard of the identity or session with this id: its last ten bits.
func Of(id uuid.UUID) int16 {
	return int16(binary.BigEndian.Uint16(id[14:]) % Count) //nolint:gosec // less than 1024
}

// All returns the shard of each id.
func All(ids []uuid.UUID) []int16 {
	shards := make([]int16, len(ids))
	for i, id := range ids {
		shards[i] = Of(id)
	}
	return shards
}

// NewID returns a new UUID of version 7 (RFC 9562, section 5.7) in the shard n. 48 bits are
// the time in milliseconds, 12 bits order ids of the same millisecond, 52 bits are random,
// and the last ten are n.
func NewID(n int16) (uuid.UUID, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return uuid.Nil, fmt.Errorf("generate a uuid: %w", err)
	}
	last := id[14:]
	binary.BigEndian.PutUint16(last, binary.BigEndian.Uint16(last)&^(Count-1)|uint16(n)%Count) //nolint:gosec // n is not negative
	return id, nil
}

// Key computes shards of accounts.
type Key struct{ mac [sha256.Size]byte }

// NewKey returns a random key.
func NewKey() *Key {
	k := &Key{}
	_, _ = rand.Read(k.mac[:]) // never fails: crypto/rand aborts the program instead
	return k
}

// Of returns the shard of an account of an app.
func (k *Key) Of(appID string, account auth.PlatformAccount) int16 {
	sum := k.sum("account", appID, account.SubjectKind, account.Subject)
	return int16(binary.BigEndian.Uint16(sum) % Count) //nolint:gosec // less than 1024
}

// sum returns the HMAC-SHA-256 of texts, each preceded by its length.
func (k *Key) sum(texts ...string) []byte {
	h := hmac.New(sha256.New, k.mac[:])
	for _, text := range texts {
		var length [8]byte
		binary.BigEndian.PutUint64(length[:], uint64(len(text)))
		_, _ = h.Write(length[:])
		_, _ = h.Write([]byte(text))
	}
	return h.Sum(nil)
}

// checkSize is the size of the check value in bytes.
const checkSize = 8

// check returns a value by which two keys can be compared. It does not reveal the key.
func (k *Key) check() []byte { return k.sum("check")[:checkSize] }

// Sealed is a key as the database stores it.
type Sealed struct {
	// Key is sealed with the master key.
	Key []byte
	// Check is the check value of the key, which is not secret.
	Check []byte
}

// aad is the associated data of the key at rest.
func aad() []byte { return seal.AAD("shard_key", "sealed", "1") }

// Make makes a key for a new database.
func Make(sealer *seal.Ring) (Sealed, error) {
	k := NewKey()
	sealed, err := sealer.Seal(k.mac[:], aad())
	if err != nil {
		return Sealed{}, err
	}
	return Sealed{Key: sealed, Check: k.check()}, nil
}

// Store keeps the key of a deployment.
type Store interface {
	// ShardKey returns the key that was stored when the tables were made, or
	// [ErrMissing].
	ShardKey(ctx context.Context) (Sealed, error)
}

// Errors of [Open].
var (
	// ErrMissing: the database has tables without a key.
	ErrMissing = errors.New("the table shard_key is empty, but the row is made together with the tables and never changes: restore it from a backup; with another key every known account would get a second identity")
	// ErrChanged: the key is not the one that was made with the tables.
	ErrChanged = errors.New("the key in the table shard_key does not have the check value beside it: restore the row from a backup; with another key every known account would get a second identity")
)

// Open opens the key of the database.
//
// Errors: [ErrMissing], [ErrChanged], [seal.ErrOpen] if the master key does not open it, and
// those of the store.
func Open(ctx context.Context, s Store, sealer *seal.Ring) (*Key, error) {
	stored, err := s.ShardKey(ctx)
	if err != nil {
		return nil, fmt.Errorf("shard: load the key: %w", err)
	}
	plain, err := sealer.Open(stored.Key, aad())
	if err != nil {
		return nil, fmt.Errorf("shard: open the key: %w", err)
	}
	k := &Key{}
	if copy(k.mac[:], plain) != len(k.mac) || len(plain) != len(k.mac) || !hmac.Equal(k.check(), stored.Check) {
		return nil, fmt.Errorf("shard: %w", ErrChanged)
	}
	return k, nil
}

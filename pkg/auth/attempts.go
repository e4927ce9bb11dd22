package auth

import (
	"encoding/hex"
	"strings"
	"time"

	"github.com/google/uuid"
)

// AttemptKind is a kind of key that attempts to bind are counted against.
type AttemptKind string

// The kinds. Every method counts against the identity that tries. Facts
// and webhooks also count against the address, because a guesser with many identities
// may have only one address. Tickets and phones do not, and only facts count against
// the value that was looked up, so a stranger cannot keep a colleague from binding by
// ticket or phone.
const (
	// AttemptIdentity keys are uuids.
	AttemptIdentity AttemptKind = "identity"
	// AttemptValue keys are the MACs of looked-up facts, in hexadecimal, whether or
	// not a person has them.
	AttemptValue AttemptKind = "value"
	// AttemptAddress keys are an IPv4 address or a /64 network of IPv6, and an app.
	AttemptAddress AttemptKind = "address"
)

// AttemptKey is a key that attempts are counted against.
type AttemptKey struct {
	Kind AttemptKind
	Key  string
}

// IdentityAttempts returns the key of an identity.
func IdentityAttempts(id uuid.UUID) AttemptKey { return AttemptKey{AttemptIdentity, id.String()} }

// ValueAttempts returns the key of a looked-up fact by its MAC.
func ValueAttempts(mac []byte) AttemptKey { return AttemptKey{AttemptValue, hex.EncodeToString(mac)} }

// AddressAttempts returns the key of a client's network, as web.Network names it, in
// one app.
func AddressAttempts(network, appID string) AttemptKey {
	return AttemptKey{AttemptAddress, network + " " + appID}
}

// Address returns the network and the app of a key of [AttemptAddress].
func (k AttemptKey) Address() (network, appID string) {
	network, appID, _ = strings.Cut(k.Key, " ")
	return network, appID
}

// Attempts counts the failed attempts against a key.
type Attempts struct {
	AttemptKey
	// Failures is the number of counted attempts at At, the time of the last one.
	Failures int
	At       time.Time
	// BlockedUntil is when the next attempt may be made; zero means at any time.
	BlockedUntil time.Time
	// Person is the person who has the value of a key of [AttemptValue]. It is
	// uuid.Nil when no person or several have it, or when no app looks persons up by
	// such a fact. Only lists for admins fill it in.
	Person uuid.UUID
}

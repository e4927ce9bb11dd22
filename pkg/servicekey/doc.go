// Package servicekey is the API keys of back ends and admins.
//
// It owns their format (yfk_<id>_<secret>, the secret 256 random bits, so that
// secret scanners find leaked ones), what may stand in one ([Draft]), which
// scope includes which ([Key.Has]), and their authentication ([Authenticator]).
// The store keeps the SHA-256 of the secret. Slow hashing is for passwords, which
// people choose; 256 random bits cannot be guessed. It does not own which
// endpoint wants which scope (one table in api/web does), nor HTTP.
//
// # States
//
// A key is good, expired, or revoked for good. A key that another one made has
// no more scopes and apps than its creator and expires no later ([Key.Mint]);
// the revocation of a key reaches those that it made if that is said
// ([Revoke]). Its pin (the one app that a back end without an audience accepts,
// [Key.Pinned]) is undecided until it follows the feed for the first time
// ([FollowFeed]); from then on only an admin changes it ([Pin]). A revocation
// is effective within [FreshFor] (one second) on every replica whose database
// answers.
//
// # Failure
//
// When the database does not answer, keys that were good a moment ago
// ([StaleFor], or the maximum staleness of revocation data if that is longer)
// still are, so that validators can go on following the feed and asking;
// later, and for keys never seen, the answer is [auth.StorageUnavailable].
// However many bogus keys are presented, the database is asked a bounded number
// of times a second.
package servicekey

// Package servicekey owns the API keys of back ends and admins.
//
// It owns their format (yfk_<id>_<secret>; the prefix lets secret scanners find leaked
// keys, and the secret has 256 random bits), their settings ([Draft]), their
// scopes ([Table]: what each allows and includes), and their authentication ([Authenticator]).
// The store keeps the SHA-256 of the secret. Slow hashing is for passwords, which
// people choose; 256 random bits cannot be guessed. It does not own the scopes that
// endpoints require (api/admin/routes.go and the other handlers), or HTTP.
//
// # States
//
// A key is valid, expired, or revoked for ever. A key that another key made has
// no more scopes and apps than its creator and expires no later ([Key.Mint]).
// The revocation of a key includes the keys that it made if the caller asks for that
// ([Revoke]). Its pin (the one app that a back end without an audience accepts,
// [Key.Pinned]) is undecided until it follows the feed for the first time
// ([FollowFeed]); from then on only an admin changes it ([Pin]). A revocation
// is effective within [FreshFor] (one second) on every replica whose database
// answers.
//
// # Failure
//
// While the database does not answer, keys that were valid stay valid for [StaleFor], or
// for the maximum staleness of revocation data if that is longer, so that validators
// can continue to follow the feed and ask. Later, and for unknown keys, the error is
// [auth.StorageUnavailable]. Any number of bogus keys causes only a bounded number of
// queries a second.
package servicekey

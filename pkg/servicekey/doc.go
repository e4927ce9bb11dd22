// Package servicekey is the API keys of back ends and admins.
//
// It owns their format (yfk_<id>_<secret>, the secret 256 random bits, so that
// secret scanners find leaked ones), their scopes, and their authentication. The
// store keeps the SHA-256 of the secret: hashing slowly is for passwords, which
// people choose; nobody guesses 256 random bits. It does not own what a scope
// opens (each endpoint names the scope it wants).
//
// A key is good, or revoked for good. When the database does not answer, keys
// seen a moment ago still work; others are refused with
// [auth.StorageUnavailable].
package servicekey

// Package bearer lets a back end accept the access tokens of a Yufu service: it
// verifies them in process, and refuses a revoked one within about a second.
//
// # Accepting tokens
//
// [New] makes a [Verifier]. [Verifier.Require] and [Verifier.RequireBound] are its
// middleware, and [FromContext] returns the identity that made the request. The example
// of the package is a back end with all of them. Without an http.Handler, call
// [Verifier.Verify]. Key your data by the UUID of the [Identity], or by its Person for
// data that belongs to a person in every mini-program.
//
// Make the service key on the host of the service, with its YUFU_DATABASE_URL. With yufu
// dev that is
//
//	yufu service-key create --database-url sqlite:.yufu/yufu.db --name shop --scope service
//
// In tests use package bearertest, a service double that issues and revokes tokens. The
// folder example has a whole back end.
//
// # What is checked
//
// The signature, with a key and an algorithm that the issuer publishes (ES256, EdDSA or
// RS256, each key for one of them); typ at+jwt; no critical header extension; iss, aud
// and exp; that all claims of an access token are present and well-formed; and that no
// cutoff hits the token. Encodings must be strict: no repeated JSON member, no stray bit
// or line break in base64. A token that contains a key or the address of one (jwk, jku,
// x5c, x5u) is refused. So is a token that needs a proof of possession (cnf), because
// this package cannot check the proof. There is no leeway for expired tokens: keep clocks
// within a second or two, as any NTP client does.
//
// A wrong issuer or audience refuses every token. At the start, the issuer is compared
// with the one in the service's metadata: if they differ, the log has an error and
// [Verifier.Ready] fails. Each reason why tokens are invalid is logged once a minute, and
// [Config].OnRefused is called for every refused token.
//
// # Whose tokens are accepted
//
// Every token has the issuer as an audience, and a person is the same in every app. So a
// back end must select its tokens: by an audience, which an admin gives to apps, or by a
// list of apps ([Config].Audience, [Config].Apps). With neither, only tokens of the app
// to which its service key is pinned are accepted. The service pins a key at its first
// use, if exactly one app is enabled then, and an admin can change the pin (yufu
// service-key pin). A key without a pin refuses every token with [ErrMisconfigured], and
// [Verifier.Ready] and the log report it. Tokens of other apps are [ErrOtherApp].
//
// # Revocation
//
// With a service key the verifier follows the service's revocation feed over one
// connection. A cutoff takes effect from the next Verify on, for cached tokens too. When
// the feed breaks off, the verifier reconnects and resumes. Meanwhile the age of its data
// counts: the replica's own age plus the time since its last heartbeat, and at least the
// difference between this clock and the one in that heartbeat. So neither a proxy that
// delays the feed nor a sleeping machine can hide stale data. Beyond MaxStaleness every
// token is refused with [ErrStale] until the feed is back: the verifier fails closed. A
// clock that is ahead of the service's by more than MaxStaleness has the same effect.
//
// Without a service key the verifier is offline: it only fetches the issuer's keys. Then
// a log-out, a ban, an unbinding or a revocation has no effect until the token expires
// (10 minutes by default, at most an hour). A stolen signing key is accepted until it has
// left the published set and the verifier has fetched that set. An offline verifier never
// returns [ErrRevoked].
//
// # Keys
//
// The issuer's keys are fetched at the start, again when their max-age is over, and at
// most every 10 seconds when a token names an unknown key. If a fetch fails, the known
// keys stay in use. With a service key, a revoked key is refused at once by its cutoff. A key
// that left the set is refused after the next fetch.
//
// # What it owns
//
// Verification, the middleware, the connection to the service and three goroutines, until
// [Verifier.Close]. It does not own the definition and transport of revocations (package
// cutoff), nor authorization, which is up to the back end. It logs trouble with the
// service, but no tokens and no requests.
package bearer

// Package bearer lets a back end accept the access tokens of a Yufu service: it
// verifies them in process, and refuses a revoked one within about a second.
//
// # Accepting tokens
//
// [New] makes a [Verifier], [Verifier.Require] and [Verifier.RequireBound] are its
// middleware, and [FromContext] tells a handler who makes the request. The example of
// the package is a back end with all of them. Where there is no http.Handler, ask
// [Verifier.Verify]. Key your data by the UUID of the [Identity], or by its Person for
// what belongs to a person in every mini-program.
//
// The service key is made on the host of the service, with its YUFU_DATABASE_URL; with
// yufu dev that is
//
//	yufu service-key create --database-url sqlite:.yufu/yufu.db --name shop --scope service
//
// In tests use package bearertest, which is a service that issues tokens and
// revokes them. A whole back end is in the folder example.
//
// # What is checked
//
// The signature, by a key and an algorithm that the issuer publishes (ES256,
// EdDSA or RS256, each key for one of them); typ at+jwt; no critical header
// extension; iss, aud and exp; that all claims of an access token are there and
// well-formed; and that no cutoff hits the token. Encodings must be strict: no
// repeated JSON member, no stray bit or line break in base64. A token that
// brings a key or the address of one (jwk, jku, x5c, x5u) is refused, and so is
// one that must be sent with a proof of possession (cnf), as this package cannot
// check the proof. There is no leeway for expired tokens: keep clocks within a
// second or two, as any NTP client does.
//
// A wrong issuer or audience refuses every token. At the start, the issuer is compared
// with the one that the service names in its metadata: if they differ, the log has an
// error and [Verifier.Ready] fails. Each reason why tokens are invalid is logged once a
// minute, and [Config].OnRefused hears of every refused token.
//
// # Whose tokens are accepted
//
// A token of any app of the issuer is for the issuer, and a person is the same in
// every app. So a back end says which tokens are for it: by an audience, which an
// admin gives to apps, or by a list of apps ([Config].Audience, [Config].Apps). If it
// says neither, only tokens of the app to which its service key is pinned are
// accepted. The service pins a key when it is used for the first time, if there is
// one enabled app by then, and an admin can change it (yufu service-key pin). A key
// that is pinned to no app refuses every token with [ErrMisconfigured], and
// [Verifier.Ready] and the log say so. Tokens of other apps are [ErrOtherApp].
//
// # Revocation
//
// With a service key the verifier follows the service's revocation feed: it
// holds one connection, and a cutoff that arrives counts from the next Verify
// on, for remembered tokens too. If the feed breaks off, it connects again and
// takes up where it was. What counts meanwhile is how old its knowledge is: the
// replica's own age, plus the time since its last word, and never less than the
// difference between this clock and the one in that word, so that neither a
// proxy that holds the feed back nor a sleeping machine hides anything. Beyond
// MaxStaleness every token is refused with [ErrStale], until the feed is back:
// the verifier fails closed. A clock that is ahead of the service's by more than
// MaxStaleness looks the same.
//
// Without a service key the verifier is offline: it fetches the issuer's keys
// and nothing else. Then a log-out, a ban, an unbinding or a revocation has no
// effect on it until the token expires (10 minutes as Yufu comes, at most an
// hour), and a stolen signing key is honoured until it has left the published
// set and that has been fetched. It never answers [ErrRevoked].
//
// # Keys
//
// The issuer's keys are fetched at the start, anew when their max-age is over,
// and at most every 10 seconds when a token names an unknown one. If they
// cannot be fetched, those that are known stay in use: yet a key that was
// revoked is refused at once, by its cutoff, and one that left the set by the
// next fetch.
//
// # What it owns
//
// Verification, the middleware, the connection to the service and three
// goroutines, until [Verifier.Close]. It does not own what a revocation is and
// how it travels (package cutoff), nor authorization: who may do what is up to
// the back end. It logs trouble with the service, never a token and never a
// request.
package bearer

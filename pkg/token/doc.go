// Package token mints and reads the two kinds of tokens.
//
// It owns the claims of the access token (a JWT with the profile of RFC 9068), its
// minting, and the refresh-token codec. It does not own keys (pkg/keyring),
// the verification of access tokens (pkg/bearer, whose results [Verifier] translates),
// or the check that a session is still live (pkg/session). A verifier remembers the tokens
// that it has verified, and those of its minter ([Minter.RememberIn]).
//
// # Access token
//
// Header typ "at+jwt", kid, alg. Claims: iss, sub (the identity's uuid), aud
// (the issuer, then the app's audiences), client_id (the appid), iat, exp, jti,
// sid, ver, epoch, bound, and person when bound. Never an openid, a phone
// number or a name.
//
// # Refresh token
//
// "yfr_" and 60 characters of base64url: format, id of the MAC key,
// session, generation, and a MAC. It is a function of session and
// generation, so the store keeps no token, not even a hash, and a lost answer
// can be repeated. See [RefreshCodec].
//
// # Failure
//
// Errors have a code of package auth. A token that is not ours yields
// [auth.TokenInvalid] or [auth.RefreshInvalid] without a reason, before any database is
// asked.
package token

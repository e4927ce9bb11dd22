// Package token mints and reads the two kinds of tokens.
//
// It owns the claims of the access token (a JWT as RFC 9068 profiles it), its
// minting, and the refresh-token codec. It does not own keys (pkg/keyring hands
// them in), what makes an access token good (pkg/bearer, whose answers
// [Verifier] translates), nor the question whether a session is still live
// (pkg/session asks the store).
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
// "yfr_" and 60 characters of base64url: what it is, which MAC key signed it,
// session and generation, and a MAC. It is a function of session and
// generation, so the store keeps no token, not even a hash, and a lost answer
// can be given again. See [RefreshCodec].
//
// # Failure
//
// Whatever does not verify yields a code of package auth, [auth.TokenInvalid] or
// [auth.RefreshInvalid] for what is not ours, without a hint of why, and before
// any database is asked.
package token

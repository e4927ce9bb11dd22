// The same with oauth4webapi, which is stricter and shows each step, and a back end that
// verifies access tokens by RFC 9068.

import assert from 'node:assert/strict'
import * as oauth from 'oauth4webapi'
import { GRANT, done, task } from './task.mjs'

const insecure = { [oauth.allowInsecureRequests]: true } // the issuer is on this machine
const issuer = new URL(task.issuer)
const client = { client_id: task.client_id }
const tokens = []
const uuids = []

for (const algorithm of ['oauth2', 'oidc']) {
  const as = await oauth
    .discoveryRequest(issuer, { algorithm, ...insecure })
    .then((response) => oauth.processDiscoveryResponse(issuer, response))

  const login = await oauth
    .genericTokenEndpointRequest(as, client, oauth.None(), GRANT, { code: task.codes.shift() }, insecure)
    .then((response) => oauth.processGenericTokenEndpointResponse(as, client, response))
  uuids.push(login.uuid)
  tokens.push(login.access_token, login.refresh_token)

  let last = login
  for (let i = 0; i < 2; i++) {
    const next = await oauth
      .refreshTokenGrantRequest(as, client, oauth.None(), last.refresh_token, insecure)
      .then((response) => oauth.processRefreshTokenResponse(as, client, response))
    assert.notEqual(next.refresh_token, last.refresh_token)
    assert.equal(next.uuid, login.uuid)
    tokens.push(next.access_token, next.refresh_token)
    last = next
  }

  const request = (token) => new Request('https://api.example.com/', { headers: { authorization: `Bearer ${token}` } })
  for (const token of [login.access_token, last.access_token]) {
    const claims = await oauth.validateJwtAccessToken(as, request(token), task.issuer, insecure)
    assert.equal(claims.sub, login.uuid)
    assert.equal(claims.client_id, task.client_id)
    assert.equal(claims.bound, false)
  }
  // The audience and the signature are checked: the signature of another token is
  // refused.
  await assert.rejects(oauth.validateJwtAccessToken(as, request(last.access_token), 'https://other.example.com', insecure), {
    code: oauth.JWT_CLAIM_COMPARISON,
  })
  const forged = [...last.access_token.split('.').slice(0, 2), login.access_token.split('.')[2]].join('.')
  await assert.rejects(oauth.validateJwtAccessToken(as, request(forged), task.issuer, insecure))

  const revoke = () => oauth.revocationRequest(as, client, oauth.None(), last.access_token, insecure)
  await oauth.processRevocationResponse(await revoke())
  await oauth.processRevocationResponse(await revoke()) // repeating it changes nothing
  const refused = await oauth.refreshTokenGrantRequest(as, client, oauth.None(), last.refresh_token, insecure)
  await assert.rejects(oauth.processRefreshTokenResponse(as, client, refused), (err) => {
    assert.ok(err instanceof oauth.ResponseBodyError)
    assert.equal(err.error, 'invalid_grant')
    assert.equal(err.cause.error_code, 'session_revoked')
    return true
  })
}

done({ uuids, tokens })

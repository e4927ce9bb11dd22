// A back end in JavaScript that asks the service about access tokens, with
// oauth4webapi and with openid-client, and beside it one that does not ask.

import assert from 'node:assert/strict'
import * as oauth from 'oauth4webapi'
import * as openid from 'openid-client'
import { GRANT, done, task } from './task.mjs'

const insecure = { [oauth.allowInsecureRequests]: true } // the issuer is on this machine
const issuer = new URL(task.issuer)
const app = { client_id: task.client_id }
// A service key is the back end's client_id and secret.
const [, id, secret] = task.service_key.match(/^yfk_([0-9a-z]+)_(.+)$/)
const me = { client_id: id }

const as = await oauth.discoveryRequest(issuer, { algorithm: 'oauth2', ...insecure }).then((response) => oauth.processDiscoveryResponse(issuer, response))
assert.deepEqual(as.introspection_endpoint_auth_methods_supported, ['client_secret_basic', 'Bearer'])
const config = await openid.discovery(issuer, id, undefined, openid.ClientSecretBasic(secret), {
  algorithm: 'oauth2',
  execute: [openid.allowInsecureRequests],
})

const login = await oauth
  .genericTokenEndpointRequest(as, app, oauth.None(), GRANT, { code: task.codes.shift() }, insecure)
  .then((response) => oauth.processGenericTokenEndpointResponse(as, app, response))

const ask = (token, hint) =>
  oauth
    .introspectionRequest(as, me, oauth.ClientSecretBasic(secret), token, { ...insecure, additionalParameters: hint ? { token_type_hint: hint } : {} })
    .then((response) => oauth.processIntrospectionResponse(as, me, response))
const validate = (token) =>
  oauth.validateJwtAccessToken(as, new Request('https://api.example.com/', { headers: { authorization: `Bearer ${token}` } }), task.issuer, insecure)

const claims = await validate(login.access_token)
for (const answer of [await ask(login.access_token), await ask(login.access_token, 'access_token'), await openid.tokenIntrospection(config, login.access_token)]) {
  assert.equal(answer.active, true)
  assert.equal(answer.token_type, 'Bearer')
  assert.equal(answer.client_id, task.client_id)
  assert.equal(answer.bound, false)
  // The claims are those of the token.
  for (const name of ['iss', 'sub', 'aud', 'exp', 'iat', 'jti', 'sid', 'ver', 'epoch']) {
    assert.deepEqual(answer[name], claims[name], name)
  }
}
for (const answer of [await ask(login.refresh_token, 'refresh_token'), await ask('nonsense')]) {
  assert.deepEqual(answer, { active: false })
}

await oauth.processRevocationResponse(await oauth.revocationRequest(as, app, oauth.None(), login.refresh_token, insecure))
assert.deepEqual(await ask(login.access_token), { active: false })
assert.deepEqual({ ...(await openid.tokenIntrospection(config, login.access_token)) }, { active: false })
// Offline verification does not see the revocation.
assert.equal((await validate(login.access_token)).sub, login.uuid)

await assert.rejects(
  oauth
    .introspectionRequest(as, me, oauth.ClientSecretBasic('x'.repeat(43)), login.access_token, insecure)
    .then((response) => oauth.processIntrospectionResponse(as, me, response)),
  (err) => {
    assert.equal(err.status, 401)
    assert.equal(err.cause[0].scheme, 'basic')
    return true
  },
)

done({ uuids: [login.uuid], tokens: [login.access_token, login.refresh_token] })

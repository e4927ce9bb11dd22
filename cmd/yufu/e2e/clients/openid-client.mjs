// The life of a session with openid-client, which needs only Yufu's address: once with
// the metadata of an OAuth server, once with that of an OpenID provider.

import assert from 'node:assert/strict'
import * as client from 'openid-client'
import { GRANT, done, task } from './task.mjs'

const tokens = []
const uuids = []

for (const algorithm of ['oauth2', 'oidc']) {
  const config = await client.discovery(new URL(task.issuer), task.client_id, undefined, undefined, {
    algorithm,
    execute: [client.allowInsecureRequests], // the issuer is on this machine
  })
  const server = config.serverMetadata()
  assert.equal(server.issuer, task.issuer)
  assert.ok(server.grant_types_supported.includes(GRANT))
  // The metadata does not list what the server does not have.
  assert.equal(server.response_types_supported, undefined)
  assert.equal(server.authorization_endpoint, undefined)

  const login = await client.genericGrantRequest(config, GRANT, { code: task.codes.shift(), device: algorithm })
  assert.equal(login.token_type, 'bearer')
  assert.ok(login.expiresIn() > 500)
  assert.equal(login.bound, false)
  assert.equal(login.person, null)
  uuids.push(login.uuid)

  const second = await client.refreshTokenGrant(config, login.refresh_token)
  const third = await client.refreshTokenGrant(config, second.refresh_token)
  for (const answer of [login, second, third]) {
    tokens.push(answer.access_token, answer.refresh_token)
  }
  assert.equal(new Set([login, second, third].map((a) => a.refresh_token)).size, 3)

  const me = await client.fetchProtectedResource(config, third.access_token, new URL('/v1/me', task.issuer), 'GET')
  assert.equal(me.status, 200)
  assert.equal((await me.json()).session.device, algorithm)

  await client.tokenRevocation(config, third.refresh_token)
  await assert.rejects(client.refreshTokenGrant(config, third.refresh_token), (err) => {
    assert.ok(err instanceof client.ResponseBodyError)
    assert.equal(err.status, 400)
    assert.equal(err.error, 'invalid_grant')
    assert.equal(err.cause.error_code, 'session_revoked')
    return true
  })
  await assert.rejects(
    client.fetchProtectedResource(config, third.access_token, new URL('/v1/me', task.issuer), 'GET'),
    (err) => {
      assert.ok(err instanceof client.WWWAuthenticateChallengeError)
      assert.equal(err.status, 401)
      assert.equal(err.cause[0].scheme, 'bearer')
      assert.equal(err.cause[0].parameters.error, 'invalid_token')
      return true
    },
  )
  await client.tokenRevocation(config, third.refresh_token) // repeating it changes nothing
}

done({ uuids, tokens })

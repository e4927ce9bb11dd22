// A back end in JavaScript that checks access tokens with jose and the
// published keys.

import assert from 'node:assert/strict'
import { createRemoteJWKSet, errors, jwtVerify } from 'jose'
import { GRANT, done, task } from './task.mjs'

const answer = await fetch(new URL('/oauth2/token', task.issuer), {
  method: 'POST',
  body: new URLSearchParams({ grant_type: GRANT, client_id: task.client_id, code: task.codes.shift() }),
})
assert.equal(answer.status, 200)
const login = await answer.json()

const keys = createRemoteJWKSet(new URL('/.well-known/jwks.json', task.issuer), { timeoutDuration: 60_000 })
const rules = { issuer: task.issuer, audience: task.issuer, typ: 'at+jwt', algorithms: ['ES256'], requiredClaims: ['exp', 'sub', 'jti'] }
const { payload } = await jwtVerify(login.access_token, keys, rules)
assert.equal(payload.sub, login.uuid)
await assert.rejects(jwtVerify(login.access_token, keys, { ...rules, currentDate: new Date(Date.now() + 601_000) }), errors.JWTExpired)

done({ uuids: [login.uuid], tokens: [login.access_token, login.refresh_token] })

// The shared part of the scripts. A task is JSON on standard input:
//
//   issuer     where the server is
//   client_id  the app
//   codes      login codes of one user, each valid once
//
// The result is JSON on standard output. A script throws when a check fails, so its exit
// code is not 0.

import { text } from 'node:stream/consumers'

export const GRANT = 'urn:yufu:grant-type:mini-program-code'

export const task = JSON.parse(await text(process.stdin))

export function done(result) {
  process.stdout.write(JSON.stringify(result))
}

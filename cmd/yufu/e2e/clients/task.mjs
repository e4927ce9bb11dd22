// What the scripts here have in common. A task comes as JSON on standard input:
//
//   issuer     where the server is
//   client_id  the app
//   codes      log-in codes of one user, to be used once each
//
// What came of it goes as JSON to standard output. A script that does not get
// what it expects throws, and so ends with an exit code that is not 0.

import { text } from 'node:stream/consumers'

export const GRANT = 'urn:yufu:grant-type:mini-program-code'

export const task = JSON.parse(await text(process.stdin))

export function done(result) {
  process.stdout.write(JSON.stringify(result))
}

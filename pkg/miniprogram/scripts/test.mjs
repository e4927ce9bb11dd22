// Builds the package and the service, and runs the tests. The arguments are test
// files; by default, all of them run.

import { execFileSync, spawnSync } from 'node:child_process'
import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = join(dirname(fileURLToPath(import.meta.url)), '..')
const repository = join(root, '..', '..')
const bin = mkdtempSync(join(tmpdir(), 'yufu-miniprogram-'))
const run = (cwd, command, ...args) =>
  execFileSync(command, args, { cwd, stdio: 'inherit', env: { ...process.env, CGO_ENABLED: '0' } })

let status = 1
try {
  run(root, process.execPath, 'scripts/build.mjs')
  run(repository, 'go', 'build', '-buildvcs=false', '-o', join(bin, 'yufu'), './cmd/yufu')
  const named = process.argv.slice(2)
  const files = named.length
    ? named
    : readdirSync(join(root, 'test'))
        .filter((f) => f.endsWith('.test.mjs'))
        .map((f) => join('test', f))
  const tests = spawnSync(process.execPath, ['--test', '--test-reporter=spec', '--test-timeout=600000', ...files], {
    cwd: root,
    stdio: 'inherit',
    env: { ...process.env, YUFU_BIN: bin },
  })
  status = tests.status ?? 1
} finally {
  rmSync(bin, { recursive: true, force: true })
}
process.exit(status)

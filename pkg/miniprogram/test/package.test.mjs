// The package: its size, its language, and that it works where it is copied.

import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { gzipSync } from 'node:zlib'
import { lintText } from '../scripts/lint.mjs'
import { newPhone, root, startService } from './service.mjs'

const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))

const dir = mkdtempSync(join(tmpdir(), 'yufu-pack-'))
after(() => rmSync(dir, { recursive: true, force: true }))
// It is built already; a second build would disturb the other tests.
const npm = (...args) =>
  execFileSync('npm', args, { cwd: root, encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] })
const [packed] = JSON.parse(npm('pack', '--json', '--ignore-scripts', '--pack-destination', dir))
execFileSync('tar', ['-xzf', join(dir, packed.filename), '-C', dir])
const unpacked = join(dir, 'package')

test('the library is smaller than 6 kB, gzipped', (t) => {
  const size = gzipSync(readFileSync(join(unpacked, manifest.main)), { level: 9 }).length
  t.diagnostic(`miniprogram_dist/index.js: ${size} bytes gzipped; the packed file: ${packed.size} bytes`)
  assert(size < 6000, `${size} bytes`)
})

test('the package has only the needed files and no dependencies', () => {
  assert.equal(manifest.dependencies, undefined)
  assert.equal(manifest.peerDependencies, undefined)
  assert.equal(manifest.scripts.prepack, manifest.scripts.build, 'npm pack must build it')
  assert.deepEqual(packed.files.map((f) => f.path).sort(), [
    'README.md',
    'dist/index.mjs',
    'dist/testing.cjs',
    'dist/testing.mjs',
    'dist/testing/clock.d.ts',
    'dist/testing/index.d.ts',
    'dist/testing/network.d.ts',
    'dist/testing/promise.d.ts',
    'dist/testing/storage.d.ts',
    'miniprogram_dist/api.d.ts',
    'miniprogram_dist/index.d.ts',
    'miniprogram_dist/index.js',
    'package.json',
  ])
})

test('the lint refuses syntax and globals that phones may not have', () => {
  for (const [text, what] of [
    ['async function f() {}', /2015/],
    ['a = b ?? c', /2015/],
    ['x = { ...y }', /2015/],
    ['a ** b', /2015/],
    ['try {} catch {}', /2015/],
    ['10n', /2015/],
    ['new URL(wx)', /URL/],
    ['fetch()', /fetch/],
    ['new TextEncoder()', /TextEncoder/],
    ['atob()', /atob/],
    ['crypto.subtle', /crypto/],
    ['BigInt(1)', /BigInt/],
    ['new AbortController()', /AbortController/],
    ['globalThis.x', /globalThis/],
    ['structuredClone()', /structuredClone/],
    ['queueMicrotask()', /queueMicrotask/],
    ['process.env', /process/],
    ['function f(a) { return a + b }', /: b$/],
    ['{ let x } x', /: x$/],
    ['(() => window)()', /window/],
  ]) {
    assert.throws(() => lintText(text, 'script'), what, text)
  }
  lintText(
    'var a = 1; class B extends Error { m({ c, d = a }, ...e) { try { return c.fetch(d, e, a) } catch (f) { throw f } } }; for (const x of [B]) x; const g = function* h() { yield h }; g; wx.request({ fetch: 1 })',
    'script',
  )
})

test('a copy as made by DevTools can be required and logs in', async () => {
  // DevTools: the folder that "miniprogram" names becomes miniprogram_npm/NAME.
  const copied = join(dir, 'program', 'miniprogram_npm', manifest.name)
  cpSync(join(unpacked, manifest.miniprogram), copied, { recursive: true })
  assert(readdirSync(copied).includes('index.js'))
  const service = await startService()
  const phone = newPhone(service)
  const { createYufu } = phone.load(readFileSync(join(copied, 'index.js'), 'utf8'))
  const yufu = createYufu({ baseURL: service.baseURL, clientId: 'wxdevelopment0001' })
  assert.match((await phone.run(yufu.session())).uuid, /-/)
})

test('the demo has the current build of the library', () => {
  const git = (...args) => execFileSync('git', ['-c', 'safe.directory=*', ...args], { cwd: root, encoding: 'utf8' })
  const copy = 'demo/miniprogram_npm/yufu-miniprogram/index.js'
  // The build writes the copy, so the version in git is compared.
  assert(
    git('show', `:./${copy}`) === readFileSync(join(root, 'miniprogram_dist/index.js'), 'utf8'),
    `git add ${copy}: the build has changed it`,
  )
  const tracked = git('ls-files', 'demo').split('\n')
  const app = JSON.parse(readFileSync(join(root, 'demo/app.json'), 'utf8'))
  for (const path of [
    'project.config.json',
    app.sitemapLocation,
    'miniprogram_npm/yufu-miniprogram/index.js',
    ...app.pages.flatMap((p) => ['js', 'json', 'wxml', 'wxss'].map((e) => `${p}.${e}`)),
  ]) {
    assert(tracked.includes(`demo/${path}`), `demo/${path} is not committed, so the demo does not open without a build`)
  }
})

test('the installed package can be imported and required by its name', async () => {
  const app = join(dir, 'app')
  mkdirSync(join(app, 'node_modules'), { recursive: true })
  symlinkSync(unpacked, join(app, 'node_modules', manifest.name))
  writeFileSync(
    join(app, 'app.mjs'),
    `export * from '${manifest.name}'; export { createPhone } from '${manifest.name}/testing'`,
  )
  const imported = await import(join(app, 'app.mjs'))
  const require = createRequire(join(app, 'x.js'))
  for (const f of [
    imported.createYufu,
    require(manifest.name).createYufu,
    imported.createPhone,
    require(`${manifest.name}/testing`).createPhone,
  ])
    assert.equal(typeof f, 'function')
})

test('the types compile with a program and with the platform’s types', () => {
  const compile = (file, ...more) => {
    const app = mkdtempSync(join(dir, 'types-'))
    mkdirSync(join(app, 'node_modules'))
    symlinkSync(unpacked, join(app, 'node_modules', manifest.name))
    cpSync(join(root, 'test', 'types', file), join(app, file))
    execFileSync(
      process.execPath,
      [
        join(root, 'node_modules/typescript/bin/tsc'),
        '--ignoreConfig',
        '--noEmit',
        '--strict',
        '--target',
        'es2020',
        '--module',
        'preserve',
        '--typeRoots',
        join(root, 'node_modules'),
        ...more,
        join(app, file),
      ],
      { stdio: ['ignore', 'inherit', 'inherit'] },
    )
  }
  compile('program.ts', '--lib', 'es2020', '--types', 'miniprogram-api-typings')
  compile('testing.ts', '--lib', 'es2020,dom', '--types', '')
})

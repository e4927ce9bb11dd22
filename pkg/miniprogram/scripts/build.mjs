// Builds the files of the package:
//
//   miniprogram_dist/  CommonJS of ECMAScript 2015, for DevTools
//   dist/index.mjs     the same as an ES module, for Taro and uni-app
//   dist/testing.*     the phone for tests
//
// These files are not committed; `npm pack` builds them.

import { execFileSync } from 'node:child_process'
import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { build } from 'esbuild'
import { lint } from './lint.mjs'

const root = join(dirname(fileURLToPath(import.meta.url)), '..')
const at = (...path) => join(root, ...path)
const tsc = (...args) =>
  execFileSync(process.execPath, [at('node_modules/typescript/bin/tsc'), ...args], { cwd: root, stdio: 'inherit' })

const phone = { bundle: true, target: 'es2015', minify: true, charset: 'ascii', logLevel: 'warning' }
const desk = { bundle: true, target: 'es2022', logLevel: 'warning', entryPoints: [at('src/testing/index.ts')] }
await Promise.all([
  build({ ...phone, entryPoints: [at('src/commonjs.ts')], format: 'cjs', outfile: at('miniprogram_dist/index.js') }),
  build({ ...phone, entryPoints: [at('src/index.ts')], format: 'esm', outfile: at('dist/index.mjs') }),
])
// The phone contains the library, to run it as phones do.
desk.define = { librarySource: JSON.stringify(readFileSync(at('miniprogram_dist/index.js'), 'utf8')) }
await Promise.all([
  build({ ...desk, format: 'cjs', outfile: at('dist/testing.cjs') }),
  build({ ...desk, format: 'esm', outfile: at('dist/testing.mjs') }),
])

// The compiler checks everything and writes the declarations of the public types.
const types = mkdtempSync(join(tmpdir(), 'yufu-types-'))
try {
  const declare = ['--noEmit', 'false', '--emitDeclarationOnly', '--declaration', '--outDir']
  tsc('-p', 'tsconfig.json', ...declare, types)
  for (const name of ['index.d.ts', 'api.d.ts']) cpSync(join(types, name), at('miniprogram_dist', name))
  tsc('-p', 'tsconfig.testing.json', ...declare, at('dist/testing'))
} finally {
  rmSync(types, { recursive: true })
}

lint(at('miniprogram_dist/index.js'), 'script')
// The demo must open in DevTools without a build, so its copy is committed.
const copy = at('demo/miniprogram_npm/yufu-miniprogram/index.js')
const built = readFileSync(at('miniprogram_dist/index.js'))
if (!existsSync(copy) || !readFileSync(copy).equals(built)) writeFileSync(copy, built)
lint(at('dist/index.mjs'), 'module')

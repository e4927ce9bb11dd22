// Serves the demo, and all servers that it calls, from one origin.

import { readdirSync, readFileSync } from 'node:fs'
import { createServer, request } from 'node:http'
import { createRequire } from 'node:module'
import { join, relative } from 'node:path'
import { build } from 'esbuild'
import { root } from '../service.mjs'

const { TmplGroup } = createRequire(import.meta.url)('glass-easel-template-compiler')

const demo = join(root, 'demo')

const html = `<!doctype html><meta charset="utf-8"><title>demo</title><style>
body { margin: 0; font-family: sans-serif; }
#bar { background: #1f4f46; color: white; text-align: center; padding: 12px; }
view { display: block; } button { display: block; width: 100%; padding: 12px; border: 0; border-radius: 4px; background: #e8e8e0; font-size: 16px; }
button[type=primary] { background: #1f4f46; color: white; } input { display: block; box-sizing: border-box; width: 100%; font-size: 16px; }
dialog { top: 40%; }
</style><body><div id="bar"></div><div id="screen"></div><script type="module" src="/runtime.js"></script>`

/** program reads the demo in the way of DevTools, with settings of the test. */
function program(config) {
  const files = readdirSync(demo, { recursive: true, withFileTypes: true })
    .filter((f) => f.isFile())
    .map((f) => relative(demo, join(f.parentPath ?? f.path, f.name)))
  const text = (path) => readFileSync(join(demo, path), 'utf8')
  const some = (end, f = text) =>
    Object.fromEntries(files.filter((path) => path.endsWith(end)).map((path) => [path, f(path)]))
  const app = JSON.parse(text('app.json'))
  const group = new TmplGroup()
  const templates = {}
  for (const path of app.pages) {
    const errors = group.addTmpl(path, text(`${path}.wxml`))
    if (errors.length) throw new Error(`${path}.wxml: ${JSON.stringify(errors.map(String))}`)
    templates[path] = group.getTmplGenObjectGroups()
  }
  const configs = Object.fromEntries(app.pages.map((path) => [path, JSON.parse(text(`${path}.json`))]))
  return {
    app,
    configs,
    templates,
    styles: some('.wxss'),
    files: { ...some('.js'), 'config.js': `module.exports = ${JSON.stringify(config)}` },
  }
}

/** serveDemo returns the address of the demo, and the requests to it. */
export async function serveDemo({ yufu, orders, sim, clientId, user }) {
  const runtime = await build({
    entryPoints: [join(root, 'test', 'demo', 'runtime.mjs')],
    bundle: true,
    format: 'esm',
    target: 'es2022',
    write: false,
    logLevel: 'warning',
  })
  const seen = []
  let origin
  const own = {
    '/': () => ['text/html', html],
    '/runtime.js': () => ['text/javascript', runtime.outputFiles[0].text],
    '/program.json': () => [
      'application/json',
      JSON.stringify(program({ baseURL: origin, orders: origin, sim: origin, clientId, user })),
    ],
    '/favicon.ico': () => ['image/x-icon', ''],
  }
  const target = (path) =>
    /^\/(oauth2|v1)\//.test(path)
      ? yufu
      : /^\/sim\//.test(path)
        ? sim
        : /^\/(orders|salary)$/.test(path)
          ? orders
          : undefined
  const server = createServer((req, res) => {
    const path = req.url.split('?')[0]
    if (own[path]) {
      const [type, body] = own[path]()
      return res.writeHead(200, { 'content-type': type }).end(body)
    }
    const to = target(path)
    if (!to) return res.writeHead(404).end()
    const chunks = []
    req.on('data', (c) => chunks.push(c))
    req.on('end', () => {
      const body = Buffer.concat(chunks)
      const made = { method: req.method, url: req.url, body: body.toString() }
      seen.push(made)
      const { host, ...headers } = req.headers
      const passed = request(to + req.url, { method: req.method, headers }, (answer) => {
        made.status = answer.statusCode
        res.writeHead(answer.statusCode, answer.headers)
        answer.pipe(res)
      })
      passed.on('error', () => res.destroy())
      passed.end(body)
    })
  })
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve))
  origin = `http://127.0.0.1:${server.address().port}`
  return { origin, seen, close: () => (server.closeAllConnections(), server.close()) }
}

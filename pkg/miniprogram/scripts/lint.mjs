// Checks that a built file runs on every phone: only the syntax of ECMAScript 2015,
// and only the globals of that language version and those that every phone has.

import { readFileSync } from 'node:fs'
import { parse } from 'acorn'
import { ancestor } from 'acorn-walk'

/** The globals that the built files may use. No others are on every phone. */
export const onPhones = new Set(
  'Array Date Error Math Number Object Promise RegExp String Symbol TypeError clearTimeout module setTimeout undefined wx encodeURIComponent'.split(
    ' ',
  ),
)

/** lint throws if a file would fail on an old phone. */
export function lint(path, sourceType) {
  lintText(readFileSync(path, 'utf8'), sourceType, path)
}

/** lintText is lint for a text. */
export function lintText(text, sourceType, path = 'text') {
  let tree
  try {
    tree = parse(text, { ecmaVersion: 2015, sourceType })
  } catch (e) {
    throw new Error(`${path} is not ECMAScript 2015: ${e.message}`)
  }
  const strange = new Set()
  ancestor(tree, {
    Identifier(node, ancestors) {
      if (!declared(node.name, ancestors) && !onPhones.has(node.name)) strange.add(node.name)
    },
  })
  if (strange.size) throw new Error(`${path} uses globals that phones may not have: ${[...strange].join(', ')}`)
}

/** declared reports whether one of the scopes around an identifier declares the name. */
function declared(name, ancestors) {
  return ancestors.some((scope) => namesOf(scope).has(name))
}

const cache = new WeakMap()

/** namesOf returns the names that a node declares for the nodes inside it. */
function namesOf(node) {
  if (cache.has(node)) return cache.get(node)
  const names = new Set()
  cache.set(node, names)
  if (/Function/.test(node.type)) {
    node.params.forEach((p) => pattern(p, names))
    if (node.type !== 'ArrowFunctionExpression') names.add('arguments')
    if (node.id) names.add(node.id.name)
    vars(node.body, names)
  } else if (node.type === 'Program') {
    vars(node, names)
    lexical(node.body, names)
  } else if (node.type === 'BlockStatement') lexical(node.body, names)
  else if (node.type === 'CatchClause' && node.param) pattern(node.param, names)
  else if (/^For/.test(node.type)) lexical([node.init || node.left].filter(Boolean), names)
  else if (/^Class/.test(node.type) && node.id) names.add(node.id.name)
  return names
}

/** vars adds the names that var and function declare in a function, at any depth. */
function vars(node, names) {
  if (!node || typeof node !== 'object') return
  if (Array.isArray(node)) return node.forEach((n) => vars(n, names))
  if (node.type === 'FunctionDeclaration') names.add(node.id.name)
  if (/Function/.test(node.type || '')) return
  if (node.type === 'VariableDeclaration' && node.kind === 'var') node.declarations.forEach((d) => pattern(d.id, names))
  for (const key of Object.keys(node)) vars(node[key], names)
}

/** lexical adds the names that let, const, class, function and import declare in a block. */
function lexical(body, names) {
  for (const node of body) {
    const d =
      node.type === 'ExportNamedDeclaration' || node.type === 'ExportDefaultDeclaration' ? node.declaration : node
    if (!d) continue
    if (d.type === 'VariableDeclaration') d.declarations.forEach((v) => pattern(v.id, names))
    else if (/^(Function|Class)Declaration$/.test(d.type) && d.id) names.add(d.id.name)
    else if (d.type === 'ImportDeclaration') d.specifiers.forEach((s) => names.add(s.local.name))
  }
}

function pattern(node, names) {
  if (!node) return
  if (node.type === 'Identifier') names.add(node.name)
  else if (node.type === 'ObjectPattern') node.properties.forEach((p) => pattern(p.value || p.argument, names))
  else if (node.type === 'ArrayPattern') node.elements.forEach((e) => pattern(e, names))
  else if (node.type === 'AssignmentPattern') pattern(node.left, names)
  else if (node.type === 'RestElement') pattern(node.argument, names)
}

if (process.argv[1] && import.meta.url.endsWith(process.argv[1].replaceAll('\\', '/')))
  for (const path of process.argv.slice(2)) lint(path, path.endsWith('.mjs') ? 'module' : 'script')

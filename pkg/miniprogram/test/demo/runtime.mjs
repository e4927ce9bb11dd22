// Runs the demo in a browser: its pages with Tencent's component framework, its code
// on the test phone. It has the parts of WeChat around a program: opening and closing
// of pages, the navigation bar, modals.

import { glassEasel, MiniProgramEnv } from 'glass-easel-miniprogram-adapter'
import { createPhone } from '../../dist/testing.mjs'

const program = await (await fetch('/program.json')).json()
const phone = createPhone({
  codes: async () => {
    throw new Error('the demo must get its codes with the option login')
  },
})
const { wx } = phone

// The visible parts above and on a page.
const bar = document.querySelector('#bar')
const screen = document.querySelector('#screen')
document.querySelector('style').append(
  Object.values(program.styles)
    .join('\n')
    .replace(/(^|\n)page\b/g, '$1body'),
)

// CommonJS, as in a mini-program: paths, and packages of miniprogram_npm.
const loaded = {}
function requireFrom(dir) {
  return (id) => {
    const path = id.startsWith('.') ? `${resolve(dir, id)}.js` : `miniprogram_npm/${id}/index.js`
    if (!(path in program.files)) throw new Error(`${id} is not in the program`)
    if (!(path in loaded)) loaded[path] = load(path)
    return loaded[path]
  }
}
const resolve = (dir, id) => new URL(id, `http://program/${dir}`).pathname.slice(1)
const dirOf = (path) => path.replace(/[^/]*$/, '')
const load = (path, more) => phone.load(program.files[path], { require: requireFrom(dirOf(path)), ...more })

// The component framework.
glassEasel.globalOptions.writeIdToDOM = true
glassEasel.globalOptions.throwGlobalError = true
const env = new MiniProgramEnv()
const code = env.createCodeSpace('', true)
const backend = new glassEasel.CurrentWindowBackendContext()
const associated = env.associateBackend(backend)
backend.onEvent((target, type, detail, options) => {
  // A browser's input event has its value in another place than WeChat's.
  const { originalEvent } = options
  glassEasel.triggerEvent(target, type, type === 'input' ? { value: originalEvent.target.value } : detail, options)
})
// It also does not know the open-type of a button.
document.addEventListener(
  'click',
  ({ target }) => {
    const button = target.closest('[open-type=getPhoneNumber]')
    if (button) glassEasel.triggerEvent(button.__wxElement, 'getphonenumber', { errMsg: 'getPhoneNumber:ok' })
  },
  true,
)

for (const path of program.app.pages) {
  const group = new Function(`return ${program.templates[path]}`)()
  code.addComponentStaticConfig(path, {})
  code.addCompiledTemplate(path, { groupList: group, content: group[path] })
  code.componentEnv(path, ({ Page }) => load(`${path}.js`, { Page }))
}

// The stack of pages.
const stack = []
function open(url) {
  const [path, query = ''] = url.replace(/^\//, '').split('?')
  if (stack.length) hide(stack.at(-1))
  const root = associated.createRoot('main', code, path)
  const placeholder = document.createElement('div')
  screen.append(placeholder)
  root.attach(screen, placeholder)
  const page = { path, root, element: screen.lastElementChild }
  stack.push(page)
  call(page, 'onLoad', Object.fromEntries(new URLSearchParams(query)))
  show(page)
}
function call({ root }, name, argument) {
  const page = root.get()
  if (typeof page[name] === 'function') page[name](argument)
}
function show(page) {
  page.element.hidden = false
  bar.textContent = program.configs[page.path].navigationBarTitleText
  document.body.dataset.page = page.path
  call(page, 'onShow')
}
function hide(page) {
  page.element.hidden = true
  call(page, 'onHide')
}
function close() {
  const page = stack.pop()
  call(page, 'onUnload')
  page.root.release()
  page.element.remove()
}

Object.assign(wx, {
  navigateTo: ({ url }) => open(url),
  navigateBack({ fail } = {}) {
    if (stack.length < 2) return fail?.({ errMsg: 'navigateBack:fail cannot navigate back at first page' })
    close()
    show(stack.at(-1))
  },
  reLaunch({ url }) {
    while (stack.length) close()
    open(url)
  },
  showModal({ title, content }) {
    document.body.insertAdjacentHTML('beforeend', '<dialog open></dialog>')
    document.querySelector('dialog').textContent = `${title} ${content}`
  },
})

load('app.js', { App: (app) => app.onLaunch({}) })
open(program.app.pages[0])

// Access for the test.
Object.assign(window, { phone, wx })

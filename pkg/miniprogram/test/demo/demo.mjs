// The demo from its first start to the log-out, in a real browser, with the actions
// of a user and an admin. Run by the end-to-end tests of the service. The task is JSON
// on standard input, the result goes to standard output:
//
//   yufu, admin, adminKey, orders, sim, clientId   the addresses and the app
//   person                                         Li Lei's id, to create a ticket for
//   screenshots                                    a folder for screenshots, optional

import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { chromium } from 'playwright-core'
import { name, post } from '../service.mjs'
import { serveDemo } from './server.mjs'

const task = JSON.parse(await text(process.stdin))
const { origin, seen, close } = await serveDemo({ ...task, user: { user: 'alice', phone: '13800001002' } })

const executablePath = ['chromium', 'chromium-browser', 'google-chrome']
  .map((c) => {
    try {
      return execFileSync('sh', ['-c', `command -v ${c}`], { encoding: 'utf8' }).trim()
    } catch {
      return ''
    }
  })
  .find(Boolean)
assert(executablePath, 'Chromium is missing; to install it: sudo make deps')
// The timeout is long: the first start of a browser is slow on a loaded machine.
// The test that runs this has its own limit.
const patience = 120_000
const browser = await chromium.launch({
  executablePath,
  timeout: patience,
  args: [
    '--no-sandbox',
    '--disable-gpu',
    '--disable-quic',
    '--no-first-run',
    '--disable-background-networking',
    '--disable-component-update',
    '--disable-sync',
  ],
})
const page = await browser.newPage({ viewport: { width: 390, height: 640 }, deviceScaleFactor: 2 })
page.setDefaultTimeout(patience)
const trouble = []
page.on('pageerror', (e) => trouble.push(String(e)))
page.on('console', (m) => m.type() === 'error' && !/Failed to load resource/.test(m.text()) && trouble.push(m.text()))

const steps = []
const screen = () => page.locator('#screen > *:not([hidden])')
const at = (id) => screen().locator(`[id$="${id}"]`)
const tap = (id) => at(id).click()
async function shows(id, what) {
  await at(id).filter({ hasText: what }).waitFor()
}
async function opened(path) {
  await page.locator(`body[data-page="${path}"]`).waitFor()
}
async function step(what, f) {
  const from = seen.length
  try {
    await f()
  } catch (e) {
    throw new Error(
      `${what}: ${e.message}\n${await page.locator('body').innerText()}\n${trouble.join('\n')}\n${seen.map((s) => `${name(s)} ${s.status}`).join('\n')}`,
    )
  }
  const made = seen
    .slice(from)
    .filter((s) => !s.url.startsWith('/sim/'))
    .map(name)
  steps.push({ what, requests: made })
  if (task.screenshots) await page.screenshot({ path: join(task.screenshots, `${steps.length} ${what}.png`) })
  return made
}

let uuid
const count = (made, what) => made.filter((n) => n === what).length

try {
  const first = await step('unbound', async () => {
    await page.goto(origin)
    await shows('name', '未绑定用户')
    uuid = await at('uuid').innerText()
  })
  assert.deepEqual(first, ['exchange'], 'onLaunch and onShow share one log-in')

  await step('ordered', async () => {
    await tap('orders')
    await opened('pages/orders/index')
    await shows('empty', '还没有订单')
    await tap('place')
    await screen().getByText('一杯茶', { exact: true }).waitFor()
    await tap('salary')
    await shows('notice', '请先绑定')
  })

  await step('wrong facts', async () => {
    await page.evaluate(() => wx.navigateBack())
    await tap('bind')
    await opened('pages/bind/index')
    await at('employee_no').fill('1001')
    await at('person_name').fill('韩梅梅')
    await tap('facts')
    await shows('notice', '信息不符')
  })

  await step('bound by facts', async () => {
    await at('person_name').fill('李雷')
    await tap('facts')
    await opened('pages/home/index')
    await shows('name', '李雷')
    await shows('number', '1001')
    assert.equal(await at('uuid').innerText(), uuid)
  })

  await step('ordered when bound', async () => {
    await tap('orders')
    await opened('pages/orders/index')
    await screen().getByText('一杯茶', { exact: true }).waitFor()
    await tap('salary')
    await shows('secret', 'confidential')
  })

  const recovered = await step('recovered from a revocation', async () => {
    await post(`${task.admin}/admin/v1/revocations`, { uuid, reason: 'a lost phone' }, task.adminKey)
    // The revocation reaches the back end within a second; the phone's next request shows it.
    for (let refused = false; !refused; ) {
      const answer = await fetch(`${task.orders}/orders`, {
        headers: {
          authorization: `Bearer ${await page.evaluate(() => JSON.parse([...phone.storage.raw.values()][0]).access)}`,
        },
      })
      refused = answer.status === 401
    }
    await tap('place')
    await screen().getByText('#2').waitFor()
    assert.equal(await at('notice').count(), 0, 'there is no notice for the user')
    await tap('salary')
    await shows('secret', 'confidential')
  })
  assert.equal(count(recovered, 'exchange'), 1)
  assert.equal(count(recovered, 'refresh'), 1)

  await step('unbound again', async () => {
    await page.evaluate(() => wx.navigateBack())
    await shows('name', '李雷')
    await tap('unbind')
    await shows('name', '未绑定用户')
    assert.equal(await at('uuid').innerText(), uuid)
  })

  await step('bound by phone', async () => {
    await tap('bind')
    await opened('pages/bind/index')
    await tap('phone')
    await opened('pages/home/index')
    await shows('name', '韩梅梅')
  })

  if (task.person) {
    await step('a ticket is shown', async () => {
      await tap('unbind')
      await shows('name', '未绑定用户')
      const { ticket } = await post(`${task.admin}/admin/v1/persons/${task.person}/bind-tickets`, {}, task.adminKey)
      await page.evaluate(
        (scene) => wx.reLaunch({ url: `/pages/bind/index?scene=${encodeURIComponent(scene)}` }),
        ticket,
      )
      await shows('masked', '李*')
    })
    await step('bound by ticket', async () => {
      await tap('confirm')
      await opened('pages/home/index')
      await shows('name', '李雷')
    })
  }

  const out = await step('logged out', async () => {
    await tap('logout')
    await shows('name', '未登录')
    assert.equal(await page.evaluate(() => phone.storage.raw.size), 0)
    // The phone deletes the session before it asks the service to end it.
    while (name(seen.at(-1)) !== 'revoke' || !seen.at(-1).status)
      await new Promise((resolve) => setTimeout(resolve, 10))
  })
  assert.deepEqual(out, ['revoke'])

  await step('logged in again', async () => {
    await tap('login')
    await shows('uuid', uuid)
  })

  assert.deepEqual(trouble, [])
  for (const { url } of seen) assert(!/yfr_|eyJ/.test(url), 'a URL contains a token')
  process.stdout.write(JSON.stringify({ uuid, steps }))
} finally {
  await browser.close()
  close()
}

// Compiled, not run: a mini-program in TypeScript, with the platform's typings.

import { createYufu, type Session, type Yufu } from 'yufu-miniprogram'

const yufu: Yufu = createYufu({
  baseURL: 'https://auth.example.com',
  clientId: 'wx1',
  device: 'phone',
  apiHosts: ['api.example.com'],
  wx,
  login: wx.login,
})
const task = yufu.request({
  url: 'https://api.example.com/orders',
  success: ({ statusCode, data, header }) => console.log(statusCode, data.items, header),
  fail: ({ code, errMsg, retryAfter }) => console.log(code, errMsg, retryAfter),
  complete: () => {},
})
task.abort()
const off: () => void = yufu.on('unbound', (session: Session) => console.log(session.uuid))
off()
yufu.on('signedout', ({ code }) => console.log(code))
yufu.bind({ method: 'facts', fields: { employee_no: '1001', name: '李雷' } }).then((s) => s.person && s.person.name)
yufu.bind({ method: 'phone', code: 'c' })
yufu.bind({ method: 'ticket', ticket: 't' })
yufu.fetch({ url: 'https://api.example.com/orders' }).then(({ statusCode }) => statusCode)
yufu.unbind()
yufu.logout()

// @ts-expect-error there is no such event
yufu.on('loggedin', () => {})
// @ts-expect-error the appid is needed
createYufu({ baseURL: 'https://auth.example.com' })

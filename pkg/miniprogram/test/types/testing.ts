// Compiled, not run: a test in TypeScript.

import { createPhone } from 'yufu-miniprogram/testing'

const phone = createPhone({
  virtual: true,
  codes: async () => 'code',
  fate: ({ url }) => (url.endsWith('/orders') ? 'lost-answer' : 'ok'),
})
const yufu = phone.createYufu({ baseURL: 'http://127.0.0.1:8080', clientId: 'wx1' })
phone.run(yufu.session()).then((s) => s.uuid)
phone.background()

// The addresses. `dev` is for `yufu dev` on this computer and DevTools: its codes
// come from the simulator, which does not accept the codes of DevTools. For the real
// WeChat, fill in `real` and export that.

const dev = {
  baseURL: 'http://127.0.0.1:8080',
  clientId: 'wxdevelopment0001',
  // The sample back end, pkg/bearer/example.
  orders: 'http://127.0.0.1:8090',
  // The simulator of WeChat, and the user of this phone.
  sim: 'http://127.0.0.1:8082',
  user: { user: 'alice', phone: '13800001001' },
}

const real = {
  baseURL: 'https://auth.example.com',
  clientId: 'wx0123456789abcdef',
  orders: 'https://api.example.com',
}

module.exports = { dev, real }.dev

const yufu = require('./yufu')

App({
  onLaunch() {
    // Begin the log-in at once. Pages need not wait for it: each of their requests waits
    // by itself.
    yufu.session().catch(() => {})
    yufu.on('signedout', ({ code }) => {
      if (code !== 'logout') wx.showModal({ title: '登录失败', content: yufu.explain({ code }), showCancel: false })
    })
  },
})

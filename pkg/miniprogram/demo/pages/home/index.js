const yufu = require('../../yufu')

Page({
  data: { session: null, notice: '' },

  onLoad() {
    // Show each change of the binding, on any page.
    const show = (session) => this.setData({ session })
    this.off = [yufu.on('bound', show), yufu.on('unbound', show)]
  },

  onShow() {
    if (!this.out) this.load()
  },

  onUnload() {
    this.off.forEach((off) => off())
  },

  load() {
    this.out = false
    return this.show(yufu.session())
  },

  unbind() {
    return this.show(yufu.unbind())
  },

  logout() {
    // This page must not request the session now: that would log in.
    this.out = true
    this.setData({ session: null })
    return this.show(yufu.logout().then(() => null))
  },

  show(promise) {
    this.setData({ notice: '' })
    return promise.then(
      (session) => this.setData({ session }),
      (e) => this.setData({ notice: yufu.explain(e) }),
    )
  },

  openOrders() {
    wx.navigateTo({ url: '/pages/orders/index' })
  },

  openBind() {
    wx.navigateTo({ url: '/pages/bind/index' })
  },
})

const yufu = require('../../yufu')
const config = require('../../config')

Page({
  data: { orders: [], loaded: false, notice: '', secret: '' },

  onLoad() {
    return this.load()
  },

  load() {
    return this.ask({ url: `${config.orders}/orders` }, ({ data }) =>
      this.setData({ orders: data.orders, loaded: true }),
    )
  },

  place() {
    return this.ask({ url: `${config.orders}/orders`, method: 'POST', data: { item: '一杯茶' } }, () => this.load())
  },

  salary() {
    return this.ask({ url: `${config.orders}/salary` }, ({ data }) => this.setData({ secret: data.salary }))
  },

  // As with wx.request: every answer is a success, and its status is the result.
  ask(options, use) {
    this.setData({ notice: '' })
    yufu.request({
      ...options,
      success: (answer) => {
        if (answer.statusCode < 300) return use(answer)
        this.setData({ notice: answer.statusCode === 403 ? '请先绑定员工身份' : `出错了：${answer.statusCode}` })
      },
      fail: (e) => this.setData({ notice: yufu.explain(e) }),
    })
  },
})

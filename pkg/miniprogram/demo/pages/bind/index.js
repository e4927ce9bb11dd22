const yufu = require('../../yufu')
const config = require('../../config')

Page({
  data: { ticket: '', masked: '', employee_no: '', name: '', notice: '' },

  // A mini-program code with a ticket opens this page: `scene` is the ticket. The user
  // must confirm the name, because QR codes can be swapped.
  onLoad({ scene, ticket }) {
    const code = ticket || decodeURIComponent(scene || '')
    if (!code) return
    this.setData({ ticket: code })
    yufu.fetch({ url: `${config.baseURL}/v1/binding/preview`, method: 'POST', data: { ticket: code } }).then(
      ({ statusCode, data }) => {
        if (statusCode === 200) this.setData({ masked: data.name })
        else this.setData({ ticket: '', notice: '这个二维码无效或已过期' })
      },
      (e) => this.setData({ notice: yufu.explain(e) }),
    )
  },

  type({ currentTarget, detail }) {
    this.setData({ [currentTarget.dataset.field]: detail.value })
  },

  bindFacts() {
    const { employee_no, name } = this.data
    return this.bind(() => yufu.bind({ method: 'facts', fields: { employee_no, name } }))
  },

  bindPhone({ detail }) {
    return this.bind(() => yufu.phoneCode(detail).then((code) => yufu.bind({ method: 'phone', code })))
  },

  bindTicket() {
    return this.bind(() => yufu.bind({ method: 'ticket', ticket: this.data.ticket }))
  },

  bind(how) {
    if (this.busy) return
    this.busy = true
    this.setData({ notice: '' })
    const end = (f) => (result) => {
      this.busy = false
      f(result)
    }
    return how().then(
      end(() => wx.navigateBack({ fail: () => wx.reLaunch({ url: '/pages/home/index' }) })),
      end((e) => this.setData({ notice: yufu.explain(e) })),
    )
  },
})

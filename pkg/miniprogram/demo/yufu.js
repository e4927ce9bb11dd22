// The one client of this program. Whoever needs it requires this file.

const { createYufu } = require('yufu-miniprogram')
const config = require('./config')

const host = (url) => url.replace(/^https?:\/\//, '')

module.exports = createYufu({
  baseURL: config.baseURL,
  clientId: config.clientId,
  device: 'demo',
  apiHosts: [host(config.orders)],
  // With the real WeChat there is no `login`: it is wx.login.
  login: config.sim && (({ success, fail }) => simulated('codes', { user: config.user.user }, success, fail)),
})

// In the dev profile the simulator gives the codes that WeChat gives elsewhere.
function simulated(what, data, success, fail) {
  wx.request({
    url: `${config.sim}/sim/${what}`,
    method: 'POST',
    data,
    success: (answer) =>
      answer.statusCode === 200 ? success(answer.data) : fail({ errMsg: `the simulator answers ${answer.statusCode}` }),
    fail,
  })
}

// phoneCode gives the code of a phone number: the button's, or the simulator's.
module.exports.phoneCode = (detail) =>
  new Promise((resolve, reject) => {
    if (config.sim) simulated('phone-codes', config.user, ({ code }) => resolve(code), reject)
    else if (detail.code) resolve(detail.code)
    else reject({ errMsg: '你没有授权手机号' })
  })

// explain is what a person is told of an error.
module.exports.explain = (e) => {
  if (e.userMessage) return e.userMessage
  if (e.retryAfter) return `太频繁了，请 ${e.retryAfter} 秒后再试`
  const texts = {
    network: '网络不通，请稍后再试',
    timeout: '网络太慢，请稍后再试',
    interrupted: '刚才被打断了，请再试一次',
    user_blocked: '微信限制了你的登录',
    identity_disabled: '你的账号已停用',
    person_disabled: '你的账号已停用',
    binding_no_match: '信息不符，请核对后再试',
    already_bound: '你已经绑定了别人',
    person_taken: '这个员工已绑定了另一个微信',
  }
  return texts[e.code] || `出错了：${e.code || e.errMsg}`
}

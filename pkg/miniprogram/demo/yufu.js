// The client of this program. Each page requires this file.

const { createYufu } = require('yufu-miniprogram')
const config = require('./config')

const host = (url) => url.replace(/^https?:\/\//, '')

module.exports = createYufu({
  baseURL: config.baseURL,
  clientId: config.clientId,
  device: 'demo',
  apiHosts: [host(config.orders)],
  // With the real WeChat, `login` is not set: wx.login is used.
  login: config.sim && (({ success, fail }) => simulated('codes', { user: config.user.user }, success, fail)),
})

// In the dev profile the simulator issues the codes that otherwise come from WeChat.
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

// phoneCode returns the code for a phone number: from the button or from the simulator.
module.exports.phoneCode = (detail) =>
  new Promise((resolve, reject) => {
    if (config.sim) simulated('phone-codes', config.user, ({ code }) => resolve(code), reject)
    else if (detail.code) resolve(detail.code)
    else reject({ errMsg: '你没有授权手机号' })
  })

// explain returns the message for the user.
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

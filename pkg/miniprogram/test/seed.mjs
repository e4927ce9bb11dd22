// The pattern that this library replaces, for comparison: a timer that logs in again
// every 20 minutes, whether needed or not, and at every start.

/** createSeed runs on a phone, with its `wx` and timers. `every` is in milliseconds. */
export const seedSource = `
module.exports = function createSeed({ baseURL, clientId, every }) {
  var token, pending
  function login() {
    pending = new Promise(function (resolve) {
      wx.login({
        success: function (result) {
          wx.request({
            url: baseURL + '/oauth2/token', method: 'POST', header: { 'content-type': 'application/x-www-form-urlencoded' },
            data: { grant_type: 'urn:yufu:grant-type:mini-program-code', client_id: clientId, code: result.code },
            success: function (answer) { if (answer.statusCode === 200) token = answer.data.access_token },
            complete: function () { pending = undefined; resolve() },
          })
        },
        fail: function () { pending = undefined; resolve() },
      })
    })
    return pending
  }
  function send(options) {
    return new Promise(function (resolve, reject) {
      wx.request(Object.assign({}, options, { header: { Authorization: 'Bearer ' + token }, success: resolve, fail: reject }))
    })
  }
  login()
  setInterval(login, every)
  return {
    fetch: function (options) {
      return Promise.resolve(pending || (token ? undefined : login())).then(function () { return send(options) }).then(function (answer) {
        if (answer.statusCode !== 401) return answer
        return Promise.resolve(pending || login()).then(function () { return send(options) })
      })
    },
  }
}
`

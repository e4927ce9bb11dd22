// Package wechatsim simulates the part of WeChat's server APIs that a log-in service
// uses, for tests, development and demonstrations. It is not WeChat and proves nothing
// about a user: any client that reaches it gets a code for any user. Every answer carries
// X-Yufu-Simulator.
//
// It owns WeChat's behaviour as seen from outside: its answers, its time limits, its
// failures. It shares no code with the client in platform/wechat: a simulator with the
// client's mistakes would hide them.
//
// # The platform
//
// These paths are served as by WeChat (HTTP 200 and text/plain even for errors,
// errcode absent on success, a rid in errmsg):
//
//	GET  /sns/jscode2session
//	POST /cgi-bin/stable_token
//	POST /wxa/business/getuserphonenumber
//	GET  /wxa/checksession
//	GET  /wxa/resetusersessionkey
//
// A user is any name. The openid and unionid are derived from it (and from the appid), so
// they survive a restart; nothing else does. A code works once and lives five minutes. A
// log-in gives the user a new session_key in that app.
//
// # The controls
//
// Below /sim/ on the same listener, and as methods of [Simulator]:
//
//	POST   /sim/codes           {"user":"alice"}, optionally "appid"
//	POST   /sim/phone-codes     {"user":"alice","phone":"13800001002"}
//	POST   /sim/faults          {"errcode":-1,"count":1}, see [Fault]
//	GET    /sim/faults          returns the waiting faults
//	DELETE /sim/faults          removes them
//	GET    /sim/calls           returns the calls to the platform, see [Call]
//	POST   /sim/encrypted-data  {"user":"alice","appid":"wx…","data":{…}}
//
// # States and failure behaviour
//
// A code is fresh, used, or expired; an access token is live, superseded or expired. All
// state is in memory and bounded: the oldest entries are dropped first. Platform calls
// fail only as WeChat's would or as a [Fault] says. A control with an invalid request is
// answered with 400 and a text that says what to do.
package wechatsim

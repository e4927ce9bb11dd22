// Package wechatsim simulates the part of WeChat's server APIs that a log-in
// service talks to, for tests, for development and for demonstrations. It is
// not WeChat and proves nothing about a user: whoever reaches it gets a code
// for any user he names. Every answer carries X-Yufu-Simulator.
//
// It owns WeChat's behaviour as seen from outside: what it answers, what it
// forgets, how it fails. It shares no code with the client in platform/wechat,
// because a simulator that makes the client's mistakes proves nothing.
//
// # The platform
//
// Served as WeChat serves them (HTTP 200 and text/plain even for errors,
// errcode absent on success, a rid in errmsg):
//
//	GET  /sns/jscode2session
//	POST /cgi-bin/stable_token
//	POST /wxa/business/getuserphonenumber
//	GET  /wxa/checksession
//	GET  /wxa/resetusersessionkey
//
// A user is any name. The openid and unionid follow from it (and from the
// appid), so they survive a restart; nothing else does. A code works once and
// lives five minutes. A log-in gives the user a new session_key in that app.
//
// # The controls
//
// Below /sim/ on the same listener, and as methods of [Simulator]:
//
//	POST   /sim/codes           {"user":"alice"}, perhaps "appid"
//	POST   /sim/phone-codes     {"user":"alice","phone":"13800001002"}
//	POST   /sim/faults          {"errcode":-1,"count":1}, see [Fault]
//	GET    /sim/faults          those that wait
//	DELETE /sim/faults          forgets them
//	GET    /sim/calls           what the platform was asked, see [Call]
//	POST   /sim/encrypted-data  {"user":"alice","appid":"wx…","data":{…}}
//
// # States and failure behaviour
//
// A code is fresh, used, or expired; an access token is live, superseded or
// expired. All state is in memory and bounded: what is oldest is forgotten
// first. Platform calls never fail but as WeChat would or as a [Fault] says;
// a control that cannot be obeyed is answered with 400 and what to do.
package wechatsim

// Package wechat is the client of WeChat's server APIs for mini-programs. It
// implements [platform.Provider].
//
// It owns the parts that are specific to WeChat: the request, the lenient parser for
// answers, the table from errcode to error code, and the redaction that keeps an
// AppSecret out of every error text. It does not own decisions over many calls (breaker,
// quota, memory of used codes): its caller does. platform/accesstoken owns the renewal
// and storage of access tokens. This package keeps no state about users. Its simulator is
// in platform/wechatsim; they share no code.
//
// # A code is sent at most once
//
// A code works once, and WeChat may have redeemed it although its answer never arrived.
// So this package never repeats a code: not after "system busy", a timeout or a broken
// connection, and it follows no redirect. net/http by itself repeats a GET when a
// kept-alive connection turns out to be dead; requests are built so that it does not.
// There is one exception: the connection died before any byte of the request was written,
// which the transport's trace proves.
//
// A phone code is sent a second time in one case: WeChat refused the access token beside
// it (errcode 40001), so it did not look at the code. The code is sent once more with a
// new token, and never a third time.
//
// # Failure behaviour
//
// Every failure is an [*auth.Error] whose cause is an [*APIError] (WeChat refused), a
// [*TransportError] (no answer), an [*AnswerError] (an unusable answer),
// [ErrCodeMalformed], [ErrCredentials], [ErrNoTokenStore] and [errors.ErrUnsupported]
// (nothing was sent), or a failure to get an access token (platform/accesstoken); or it
// is the context's error when the caller gave up. [Class] names them for metrics. WeChat
// requires the secret and the access token in the URL, and Go's errors quote URLs. So no
// error of the transport is passed on or wrapped. Its text is rebuilt from causes that
// are known to be harmless; all others are withheld (pkg/netreason).
package wechat

// Package wechat is the client of WeChat's server APIs for mini-programs. It
// implements [platform.Provider].
//
// It owns what is peculiar to WeChat: the request, the lenient reading of the
// answer, the table from errcode to error code, and the redaction that keeps
// an AppSecret out of every error text. It does not own the judgement over
// many calls (breaker, quota, memory of used codes): that is its caller's; nor
// when an access token is renewed and how it is kept: platform/accesstoken does.
// It keeps no state about users; the simulator it is tested against is in
// platform/wechatsim, with which it shares no code.
//
// # A code is sent at most once
//
// A code works once, and WeChat may have redeemed it although its answer never
// arrived. So nothing here sends a code again: not after "system busy", not
// after a time-out, not after a cut connection, and no redirect is followed.
// net/http by itself repeats a GET when a kept-alive connection turns out to
// be dead; requests are built so that it does not. The one repetition there is
// happens when the connection died before the request was begun to be written,
// which the transport's trace proves.
//
// A phone code goes out a second time in one case: WeChat answered that the access
// token beside it is no longer good (errcode 40001), so that it did not look at
// the code. It is sent once more with a new token, and never a third time.
//
// # Failure behaviour
//
// Every failure is an [*auth.Error] whose cause is an [*APIError] (WeChat said
// no), a [*TransportError] (no answer), an [*AnswerError] (an answer that is
// none), [ErrCodeMalformed], [ErrCredentials] and [ErrNoTokenStore] (nothing was
// sent), or trouble with the access token (platform/accesstoken); or the context's
// error when the caller gave up. [Class] names them for metrics. WeChat puts the
// secret and the access token into the URL, and Go's errors like to quote URLs: no
// error of the transport is ever passed on or wrapped. Its text is rebuilt from
// causes known to be harmless, and all others are withheld (pkg/netreason).
package wechat

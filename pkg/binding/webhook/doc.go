// Package webhook asks an app's own back end who a user is: the fields that the
// user filled in go to a URL of the app, and the answer names the person, or
// refuses with a message for the user.
//
// It owns the request and its signature, as Standard Webhooks prescribe them, the
// strict reading of the answer, and where a request may go. It does not own which
// app has which URL and secret, what a person is beyond the answer's form, nor what
// becomes of it. It keeps no state about users.
//
// # The request
//
// is a POST of JSON with the headers webhook-id, webhook-timestamp and
// webhook-signature, the last with one signature for every secret of the app, so
// that a secret can be replaced without a gap:
//
//	{"type":"binding.requested","timestamp":"2026-03-04T05:06:07.890Z",
//	 "data":{"app":"wx…","uuid":"…","fields":{"employee_no":"1001","name":"李雷"}}}
//
// It is sent at most once, since a human waits for the answer; he may send his
// fields again, and that is another request with another webhook-id. No redirect is
// followed, no proxy used, and no connection kept.
//
// # The answer
//
// has a status from 200 to 299 and is one of
//
//	{"person":{"external_id":"1001","name":"李雷","phone":"+8613800001001","attributes":{…}}}
//	{"refused":{"user_message":"工号不存在，请联系人事"}}
//
// phone and attributes may be missing. Whatever else comes is no answer.
//
// # Where a request may go
//
// To https and, unless a list of hosts says less, to any host; but only to
// addresses of the public Internet, and to networks that the operator named. The
// address is checked when it is dialled, after all looking up of names, so that no
// name and no change of its addresses leads elsewhere.
//
// # Failure behaviour
//
// A refusal is a [*Refused]. All else is an [auth.WebhookUnavailable] whose cause
// is a [*Failure], for the log: it names the host and what went wrong, never a
// field, a secret, the rest of the URL or any of the answer; or the context's
// error when the caller gave up.
package webhook

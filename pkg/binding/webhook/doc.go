// Package webhook asks an app's own back end who a user is: it sends the fields that
// the user filled in to a URL of the app. The answer names the person, or refuses with
// a message for the user.
//
// It owns the request and its signature as Standard Webhooks specify them, the
// strict parsing of the answer, and the check of destinations. It does not own the URL
// and the secrets of an app, the rules of persons beyond the answer's form, or the
// use of the answer. It keeps no state about users.
//
// # Request
//
// The request is a POST of JSON with the headers webhook-id, webhook-timestamp and
// webhook-signature. The last has one signature for every secret of the app, so
// that a secret can be replaced without a gap:
//
//	{"type":"binding.requested","timestamp":"2026-03-04T05:06:07.890Z",
//	 "data":{"app":"wx…","uuid":"…","fields":{"employee_no":"1001","name":"李雷"}}}
//
// It is sent at most once, because a user waits for the answer. A user who sends the
// fields again makes another request with another webhook-id. The client follows no
// redirect, uses no proxy, and keeps no connection.
//
// # Answer
//
// The answer has a status from 200 to 299 and is one of
//
//	{"person":{"external_id":"1001","name":"李雷","phone":"+8613800001001","attributes":{…}}}
//	{"refused":{"user_message":"工号不存在，请联系人事"}}
//
// phone and attributes are optional. Any other answer is an error.
//
// # Destinations
//
// The scheme must be https. Any host is allowed, unless there is a list of allowed
// hosts. Addresses must be on the public Internet, or in networks that the operator
// allows. The address is checked when it is dialled, after the name was resolved, so no
// name and no change of DNS records leads to a forbidden address.
//
// # Failure
//
// A refusal is a [*Refused]. When the caller gave up, the error is the context's. Any
// other failure is an [auth.WebhookUnavailable]. Its cause is a [*Failure], for the log:
// it names the host and the problem, never a field, a secret, the rest of the URL or a
// part of the answer.
package webhook

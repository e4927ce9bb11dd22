// Package web has the HTTP functions that all handlers share.
//
// It owns the table that turns an error code into a response ([Responses]), the
// two forms of error bodies (OAuth's and RFC 9457's), and the one log event per
// request. It also owns request ids, strict form parsing, the reading of bearer
// tokens and service keys, the check of a service key's scope ([Guard]), the
// client's address ([ClientIP]), the counting of events by client ([Limiter]), and the
// connections of answers that have no end ([Stream]).
// It owns no route and does not decide which scope a route needs.
//
// Handlers return errors; [OAuth] and [API] render them. With "internal", for
// unknown errors, the client gets only the request id; the log has the cause.
package web

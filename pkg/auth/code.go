package auth

import (
	"errors"
	"time"
)

// Code is a stable, machine-readable error code. Clients may branch on codes;
// descriptions may change. Every code has a row (cause and remedy) in the guide.
//
// A Code is itself an error, so callers compare with
// errors.Is(err, auth.RefreshReused).
type Code string

// Error implements error.
func (c Code) Error() string { return string(c) }

// Codes of malformed requests.
const (
	// InvalidRequest: the request is malformed; the description says how.
	InvalidRequest Code = "invalid_request"
	// UnsupportedGrantType: grant_type names a grant this server does not have.
	UnsupportedGrantType Code = "unsupported_grant_type"
	// UnsupportedMediaType: the body's Content-Type is not the expected one.
	UnsupportedMediaType Code = "unsupported_media_type"
	// BodyTooLarge: the request body exceeds the limit.
	BodyTooLarge Code = "body_too_large"
	// NotFound: no such endpoint or object.
	NotFound Code = "not_found"
	// MethodNotAllowed: the endpoint exists, but not with this method.
	MethodNotAllowed Code = "method_not_allowed"
)

// Codes about the app, which is the OAuth client.
const (
	// AppUnknown: client_id names no registered app.
	AppUnknown Code = "app_unknown"
	// AppDisabled: the app is registered but disabled.
	AppDisabled Code = "app_disabled"
	// AppExists: an app with this appid is registered already.
	AppExists Code = "app_exists"
	// ClientSecretUnexpected: the client sent a secret; mini-programs are
	// public clients and have none.
	ClientSecretUnexpected Code = "client_secret_unexpected"
)

// Codes of the exchange of a platform code.
const (
	// CodeInvalid: the platform does not know the code, or it has expired.
	CodeInvalid Code = "code_invalid"
	// CodeUsed: the code was exchanged before; fetch a new one.
	CodeUsed Code = "code_used"
	// UserBlocked: the platform refuses to log this user in.
	UserBlocked Code = "user_blocked"
	// IdentityDisabled: an admin disabled this identity.
	IdentityDisabled Code = "identity_disabled"
	// PersonDisabled: the person this identity is bound to is disabled.
	PersonDisabled Code = "person_disabled"
	// PhoneCodeInvalid: the platform does not accept the phone code: it is wrong,
	// expired, used, or another user's.
	PhoneCodeInvalid Code = "phone_code_invalid"
	// PlatformQuota: the platform's quota for this app is used up for now.
	PlatformQuota Code = "platform_quota"
	// PlatformUnavailable: the platform did not answer, or said it is busy.
	PlatformUnavailable Code = "platform_unavailable"
	// PlatformMisconfigured: the platform refuses our appid, secret or address.
	PlatformMisconfigured Code = "platform_misconfigured"
)

// Codes of the refresh.
const (
	// RefreshInvalid: not a refresh token of this server and this app.
	RefreshInvalid Code = "refresh_invalid"
	// RefreshExpired: the session's idle or absolute lifetime is over.
	RefreshExpired Code = "refresh_expired"
	// RefreshReused: a rotated refresh token was used again after its grace window;
	// the session has been ended.
	RefreshReused Code = "refresh_reused"
	// SessionRevoked: the session was ended, or its app was revoked.
	SessionRevoked Code = "session_revoked"
	// TokenClientMismatch: the token was issued to another app (RFC 7009 §2.1).
	TokenClientMismatch Code = "token_client_mismatch"
)

// Codes of bearer-protected endpoints (RFC 6750 §3.1).
const (
	// TokenMissing: the request carries no bearer token.
	TokenMissing Code = "token_missing"
	// TokenInvalid: the bearer token is not an access token of this server.
	TokenInvalid Code = "token_invalid"
	// TokenExpired: the access token has expired; refresh it.
	TokenExpired Code = "token_expired"
	// PersonRequired: the access token is valid, and its user is not bound to a
	// person.
	PersonRequired Code = "person_required"
)

// Codes of binding.
const (
	// BindingMethodDisabled: the app's policy does not let users bind themselves this
	// way, or the user's platform does not support it.
	BindingMethodDisabled Code = "binding_method_disabled"
	// BindingNoMatch: the user's input fits no person. The error does not show whether
	// such a person exists or which part was wrong.
	BindingNoMatch Code = "binding_no_match"
	// BindingDelayed: too many failed attempts; the next one has to wait.
	BindingDelayed Code = "binding_delayed"
	// AlreadyBound: the identity is bound to another person.
	AlreadyBound Code = "already_bound"
	// PersonTaken: the person has another identity in this app, and the app's
	// policy allows one.
	PersonTaken Code = "person_taken"
	// TicketInvalid: no such ticket, or it has expired or been used.
	TicketInvalid Code = "ticket_invalid"
	// UnbindForbidden: the app's policy does not let users unbind themselves.
	UnbindForbidden Code = "unbind_forbidden"
	// WebhookRefused: the business back end says no.
	WebhookRefused Code = "webhook_refused"
	// WebhookUnavailable: the business back end did not answer, or its answer was
	// invalid.
	WebhookUnavailable Code = "webhook_unavailable"
	// PersonConflict: another person has this external_id or phone.
	PersonConflict Code = "person_conflict"
)

// Codes of endpoints that require a service key.
const (
	// ServiceKeyMissing: the request carries no service key.
	ServiceKeyMissing Code = "service_key_missing"
	// ServiceKeyInvalid: not a service key of this server, or a revoked one.
	ServiceKeyInvalid Code = "service_key_invalid"
	// InsufficientScope: the service key is valid, but not for this (RFC 6750
	// §3.1).
	InsufficientScope Code = "insufficient_scope"
)

// Codes of managing keys.
const (
	// KeyInUse: the key signs now, or tokens that it signed may still be valid.
	KeyInUse Code = "key_in_use"
)

// Codes of problems of the service.
const (
	// RateLimited: one of our own limits was reached.
	RateLimited Code = "rate_limited"
	// StorageUnavailable: the database did not answer.
	StorageUnavailable Code = "storage_unavailable"
	// Internal: a defect; the cause is only in the log.
	Internal Code = "internal"
)

// Codes lists every code, in the order of this file. Tests compare the response
// table and the guide with it.
func Codes() []Code {
	return []Code{
		InvalidRequest, UnsupportedGrantType, UnsupportedMediaType, BodyTooLarge, NotFound, MethodNotAllowed,
		AppUnknown, AppDisabled, AppExists, ClientSecretUnexpected,
		CodeInvalid, CodeUsed, UserBlocked, IdentityDisabled, PersonDisabled,
		PhoneCodeInvalid, PlatformQuota, PlatformUnavailable, PlatformMisconfigured,
		RefreshInvalid, RefreshExpired, RefreshReused, SessionRevoked, TokenClientMismatch,
		TokenMissing, TokenInvalid, TokenExpired, PersonRequired,
		BindingMethodDisabled, BindingNoMatch, BindingDelayed, AlreadyBound, PersonTaken,
		TicketInvalid, UnbindForbidden, WebhookRefused, WebhookUnavailable, PersonConflict,
		ServiceKeyMissing, ServiceKeyInvalid, InsufficientScope,
		KeyInUse,
		RateLimited, StorageUnavailable, Internal,
	}
}

// Error is a code with the data of one occurrence.
type Error struct {
	// Code is what the client branches on. It is never empty.
	Code Code
	// Description tells the client what to do. Strangers can see it, so it
	// never quotes input and never has a secret. ASCII without quotes and
	// backslashes (RFC 6749 §5.2). Empty means the code's standard sentence.
	Description string
	// RetryAfter is how long the client should wait, rounded up to seconds on
	// the wire. Zero means the code's standard delay, if it has one.
	RetryAfter time.Duration
	// UserMessage is the message of the business back end to the user, in the user's
	// language: UTF-8 text, shown unchanged. Usually empty.
	UserMessage string
	// Err is the cause, only for the log. It may be nil.
	Err error
}

// Error implements error with the code and the cause.
func (e *Error) Error() string {
	if e.Err != nil {
		return string(e.Code) + ": " + e.Err.Error()
	}
	if e.Description != "" {
		return string(e.Code) + ": " + e.Description
	}
	return string(e.Code)
}

// Unwrap makes errors.Is work for the code and for the cause.
func (e *Error) Unwrap() []error {
	if e.Err == nil {
		return []error{e.Code}
	}
	return []error{e.Code, e.Err}
}

// Invalid returns an [InvalidRequest] error with a fixed sentence for the
// client.
func Invalid(description string) error {
	return &Error{Code: InvalidRequest, Description: description}
}

// CodeOf returns the code of err: that of the first [*Error] or [Code] in its
// tree, and [Internal] for anything else. It returns "" for nil.
func CodeOf(err error) Code {
	if err == nil {
		return ""
	}
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	var c Code
	if errors.As(err, &c) {
		return c
	}
	return Internal
}

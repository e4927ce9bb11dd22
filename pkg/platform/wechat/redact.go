package wechat

import (
	"context"
	"errors"
	"net/url"
	"strings"

	"github.com/yufu-auth/yufu/pkg/netreason"
)

// TransportError is a call without an answer. It deliberately wraps nothing: the errors
// of a transport may contain the URL, and with it the secret.
type TransportError struct {
	// Host is the host that was called.
	Host string
	// Phase is the step at which the call failed, in words.
	Phase string
	// Reason is the cause, in words that cannot contain a secret.
	Reason string
	// Sent reports whether any of the request may have reached WeChat.
	Sent bool

	timeout bool
}

// Error implements error.
func (e *TransportError) Error() string {
	return "wechat: " + e.Host + ": " + e.Phase + ": " + e.Reason
}

// Timeout reports whether the call ran out of time.
func (e *TransportError) Timeout() bool { return e.timeout }

// transportError returns err with only harmless details. The timeout is ours or the
// caller's; ExchangeCode and ExchangePhoneCode tell them apart by the context.
func (c *Client) transportError(ctx context.Context, p *progress, err error) *TransportError {
	reason, timeout := safeReason(err)
	if ctx.Err() != nil {
		reason, timeout = "timed out after "+c.timeout.String(), true
	}
	at := p.at()
	return &TransportError{
		Host:    c.base.Host,
		Phase:   at.String(),
		Reason:  reason,
		Sent:    at >= phaseConnected && !p.unsent(),
		timeout: timeout,
	}
}

// safeReason describes err in words without secrets: the original text may contain the URL
// or the request.
func safeReason(err error) (reason string, timeout bool) {
	if proxy := proxyError(""); errors.As(err, &proxy) {
		return proxy.Error(), false
	}
	return netreason.Of(err)
}

// redact replaces secrets in s, both as plain text and as escaped in a URL.
func redact(s string, secrets ...string) string {
	for _, secret := range secrets {
		if secret != "" {
			s = strings.ReplaceAll(s, secret, "[redacted]")
			s = strings.ReplaceAll(s, url.QueryEscape(secret), "[redacted]")
		}
	}
	return s
}

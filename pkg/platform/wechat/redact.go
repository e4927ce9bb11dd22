package wechat

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/url"
	"reflect"
	"strings"
	"syscall"
	"unicode"
	"unicode/utf8"
)

// TransportError is a call that brought no answer. It deliberately wraps
// nothing: the errors of a transport may hold the URL, and with it the secret.
type TransportError struct {
	// Host is whom we asked.
	Host string
	// Phase is what the call was doing, in words.
	Phase string
	// Reason is what went wrong, in words that are harmless by construction.
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

// transportError rebuilds err from what may be told of it. The time-out is
// ours or the caller's; the caller's is told apart later, by its context.
func (c *Client) transportError(ctx context.Context, p *progress, err error) *TransportError {
	reason, timeout := harmless(err)
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

// harmless describes err from causes whose text is made by the standard
// library of constants and of what the peer showed before it saw the request.
// Any other text is withheld: it may quote the URL or echo the request.
func harmless(err error) (reason string, timeout bool) {
	var (
		dns    *net.DNSError
		verify *tls.CertificateVerificationError
		record tls.RecordHeaderError
		op     *net.OpError
		errno  syscall.Errno
		netErr net.Error
		proxy  proxyError
	)
	switch {
	case errors.As(err, &proxy):
		return proxy.Error(), false
	case errors.As(err, &dns):
		switch {
		case dns.IsNotFound:
			return "no such host", false
		case dns.IsTimeout:
			return "the name server did not answer", true
		}
		return "the name server failed", false
	case errors.As(err, &verify):
		return cleanText(verify.Error(), maxErrmsg), false
	case errors.As(err, &record):
		return "the peer does not speak TLS", false
	case errors.As(err, &op) && isAlert(op):
		return op.Err.Error(), false
	case errors.As(err, &netErr) && netErr.Timeout():
		return "timed out", true
	case errors.As(err, &errno):
		return errno.Error(), false
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed):
		return "the connection was closed", false
	}
	return "failed; details withheld, they may hold the secret", false
}

// isAlert reports whether op is a TLS alert. crypto/tls does not export its
// type; that it is a small number is what makes its text harmless.
func isAlert(op *net.OpError) bool {
	return (op.Op == "remote error" || op.Op == "local error") && op.Err != nil &&
		reflect.TypeOf(op.Err).Kind() == reflect.Uint8
}

// cleanText makes text of a stranger fit for one line of a log: valid UTF-8, no
// control or invisible formatting characters, at most max bytes.
func cleanText(s string, max int) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.Is(unicode.Cf, r) || r == '\u2028' || r == '\u2029' {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "\uFFFD"))
	s = strings.TrimSpace(s)
	if len(s) <= max {
		return s
	}
	cut := max - len("…")
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + "…"
}

// withhold replaces what must not be seen in s, as it is and as a URL has it.
func withhold(s string, secrets ...string) string {
	for _, secret := range secrets {
		if secret != "" {
			s = strings.ReplaceAll(s, secret, "[redacted]")
			s = strings.ReplaceAll(s, url.QueryEscape(secret), "[redacted]")
		}
	}
	return s
}

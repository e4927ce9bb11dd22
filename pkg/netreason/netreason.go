// Package netreason describes why a network call failed, in a text that contains no
// secret.
//
// Errors of a transport often contain the URL, the settings, or what the peer sent, which
// may repeat the request. If any of that is secret, such an error must not be passed on
// or wrapped. [Of] builds its text only from causes whose text the standard library makes
// from constants, and from what the peer sent before it saw the request. It withholds all
// other causes. [Clean] makes text from a peer safe for one line of a log.
//
// It owns the list of harmless causes. It does not own which parts of a call are secret,
// nor the meaning of a failure.
package netreason

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"reflect"
	"strings"
	"syscall"
	"unicode"
	"unicode/utf8"
)

// maxCertificate bounds the text about a certificate, in bytes: the peer chooses the
// names in it.
const maxCertificate = 256

// Withheld is the reason for a cause that is not known to be harmless.
const Withheld = "failed; details withheld because they may contain a secret"

// Of returns why the call failed, and whether it timed out.
func Of(err error) (reason string, timeout bool) {
	var (
		dns    *net.DNSError
		verify *tls.CertificateVerificationError
		record tls.RecordHeaderError
		op     *net.OpError
		errno  syscall.Errno
		netErr net.Error
	)
	switch {
	case errors.As(err, &dns):
		switch {
		case dns.IsNotFound:
			return "no such host", false
		case dns.IsTimeout:
			return "the name server did not answer", true
		}
		return "the name server failed", false
	case errors.As(err, &verify):
		return Clean(verify.Error(), maxCertificate), false
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
	return Withheld, false
}

// isAlert reports whether op is a TLS alert. crypto/tls does not export its type; its
// text is harmless because it is a small number.
func isAlert(op *net.OpError) bool {
	return (op.Op == "remote error" || op.Op == "local error") && op.Err != nil &&
		reflect.TypeOf(op.Err).Kind() == reflect.Uint8
}

// Clean makes text from a peer safe for one line of a log: valid UTF-8, no control or
// invisible formatting characters, at most max bytes.
func Clean(s string, max int) string {
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

package netreason_test

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"strings"
	"syscall"
	"testing"
	"unicode/utf8"

	"github.com/yufu-auth/yufu/pkg/netreason"
)

const secret = "hunter2"

func TestOf(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		err     error
		want    string
		timeout bool
	}{
		"an unknown host":             {&net.DNSError{Err: secret, Name: secret, Server: secret, IsNotFound: true}, "no such host", false},
		"a silent name server":        {&net.DNSError{Err: secret, IsTimeout: true}, "the name server did not answer", true},
		"another trouble with names":  {&net.DNSError{Err: secret}, "the name server failed", false},
		"a peer without TLS":          {tls.RecordHeaderError{Msg: secret}, "the peer does not speak TLS", false},
		"a bad certificate":           {&tls.CertificateVerificationError{Err: errors.New("expired\x1bsince")}, "tls: failed to verify certificate: expired since", false},
		"a TLS alert":                 {&net.OpError{Op: "remote error", Err: tls.AlertError(40)}, "tls: handshake failure", false},
		"no alert":                    {&net.OpError{Op: "remote error", Err: errors.New(secret)}, netreason.Withheld, false},
		"a timeout":                   {&net.OpError{Op: "read", Net: secret, Err: os.ErrDeadlineExceeded}, "timed out", true},
		"a refused connection":        {&net.OpError{Op: "dial", Net: secret, Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}, "connection refused", false},
		"a closed connection":         {fmt.Errorf(secret+": %w", io.EOF), "the connection was closed", false},
		"half an answer":              {fmt.Errorf(secret+": %w", io.ErrUnexpectedEOF), "the connection was closed", false},
		"our own closing":             {fmt.Errorf(secret+": %w", net.ErrClosed), "the connection was closed", false},
		"words of its own":            {errors.New(secret), netreason.Withheld, false},
		"a URL in words of its own":   {&url.Error{Op: "Get", URL: secret, Err: errors.New(secret)}, netreason.Withheld, false},
		"a URL around a harmless one": {&url.Error{Op: "Get", URL: secret, Err: syscall.ECONNRESET}, "connection reset by peer", false},
	} {
		t.Run("Of "+name, func(t *testing.T) {
			t.Parallel()
			reason, timeout := netreason.Of(tc.err)
			if reason != tc.want || timeout != tc.timeout || strings.Contains(reason, secret) {
				t.Errorf("Of() = %q, timeout %t", reason, timeout)
			}
		})
	}
}

func TestClean(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"plain":                       "plain",
		"  a\r\nb\t":                  "a  b",
		"a\x1b[0m\u202eb\u2028":       "a [0m b",
		"a\xffb":                      "a\uFFFDb",
		strings.Repeat("错", 10):       strings.Repeat("错", 10),
		strings.Repeat("错", 11):       strings.Repeat("错", 9) + "…",
		strings.Repeat("a", 30):       strings.Repeat("a", 30),
		strings.Repeat("a", 30) + "b": strings.Repeat("a", 27) + "…",
	} {
		if got := netreason.Clean(in, 30); got != want {
			t.Errorf("Clean(%q) = %q, want %q", in, got, want)
		}
		if got := netreason.Clean(in, 29); len(got) > 29 || !utf8.ValidString(got) {
			t.Errorf("Clean(%q) = %q", in, got)
		}
	}
}

package wechat_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/netreason/netreasontest"
	"github.com/yufu-auth/yufu/pkg/platform/wechat"
)

// roundTripper is a function as a transport.
type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// listen calls speak for every connection once the request's header has arrived, and
// closes it.
func listen(t *testing.T, speak func(conn net.Conn, header string)) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("Listen() error = %v", err)
	}
	done := make(chan struct{})
	t.Cleanup(func() { _ = listener.Close(); <-done })
	go func() {
		defer close(done)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			reader := bufio.NewReader(conn)
			header, err := readHeader(reader)
			if err == nil {
				speak(conn, header)
			}
			_ = conn.Close()
		}
	}()
	return listener.Addr().String()
}

// readHeader reads up to and including the empty line.
func readHeader(r *bufio.Reader) (string, error) {
	var header strings.Builder
	for {
		line, err := r.ReadString('\n')
		header.WriteString(line)
		if err != nil || line == "\r\n" {
			return header.String(), err
		}
	}
}

// errorTree returns err and every error that it wraps.
func errorTree(err error) []error {
	tree := []error{err}
	switch e := any(err).(type) { // only the error itself, not the errors that it wraps
	case interface{ Unwrap() error }:
		if inner := e.Unwrap(); inner != nil {
			tree = append(tree, errorTree(inner)...)
		}
	case interface{ Unwrap() []error }:
		for _, inner := range e.Unwrap() {
			tree = append(tree, errorTree(inner)...)
		}
	}
	return tree
}

// hidesSecrets fails the test if any error in the tree contains a value that was sent.
func hidesSecrets(t *testing.T, err error) {
	t.Helper()
	for _, e := range errorTree(err) {
		for _, text := range []string{e.Error(), fmt.Sprintf("%+v", e), fmt.Sprintf("%#v", e)} {
			for what, needle := range map[string]string{
				"secret": secret, "escaped secret": url.QueryEscape(secret), "half the secret": secret[len(secret)/2:],
				"code": code, "half the code": code[len(code)/2:], "query": "js_code",
			} {
				if strings.Contains(text, needle) {
					t.Errorf("a %T contains the %s: %s", e, what, text)
				}
			}
		}
	}
	if u := (*url.Error)(nil); errors.As(err, &u) {
		t.Errorf("the chain has a *url.Error: %v", u)
	}
}

func TestErrorsHideTheSecret(t *testing.T) {
	t.Parallel()
	dialing := func(err error) *http.Transport {
		transport := wechat.NewTransport()
		transport.DialContext = func(context.Context, string, string) (net.Conn, error) { return nil, err }
		return transport
	}
	tlsServer := func(t *testing.T, versions *tls.Config) *httptest.Server {
		server := httptest.NewUnstartedServer(answer(http.StatusOK, success))
		server.Config.ErrorLog = log.New(io.Discard, "", 0)
		server.TLS = versions
		server.StartTLS()
		t.Cleanup(server.Close)
		return server
	}
	for _, tc := range []struct {
		name, class, says string
		config            func(t *testing.T) wechat.Config
	}{
		{"a refused connection", wechat.ClassTransport, "connecting: connection refused", func(t *testing.T) wechat.Config {
			return wechat.Config{BaseURL: "http://" + netreasontest.UnusedAddr(t)}
		}},
		{"an unknown host", wechat.ClassTransport, "no such host", func(*testing.T) wechat.Config {
			return wechat.Config{Transport: dialing(&net.DNSError{Err: "no such host " + secret, Name: code, IsNotFound: true})}
		}},
		{"a silent name server", wechat.ClassTimeout, "name server did not answer", func(*testing.T) wechat.Config {
			return wechat.Config{Transport: dialing(&net.DNSError{Err: secret, IsTimeout: true})}
		}},
		{"a dial error with an unknown text", wechat.ClassTransport, "withheld", func(*testing.T) wechat.Config {
			return wechat.Config{Transport: dialing(errors.New("secret=" + secret + " js_code=" + code))}
		}},
		{"a self-signed certificate", wechat.ClassTransport, "TLS handshake: tls: failed to verify certificate", func(t *testing.T) wechat.Config {
			return wechat.Config{BaseURL: tlsServer(t, nil).URL}
		}},
		{"a server with only TLS 1.1", wechat.ClassTransport, "TLS handshake: tls: protocol version not supported", func(t *testing.T) wechat.Config {
			return wechat.Config{BaseURL: tlsServer(t, &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}).URL}
		}},
		{"a server without TLS", wechat.ClassTransport, "TLS handshake: the peer does not speak TLS", func(t *testing.T) wechat.Config {
			server, _ := serve(t, answer(http.StatusOK, success))
			return wechat.Config{BaseURL: "https://" + server.Listener.Addr().String()}
		}},
		{"a redirect", wechat.ClassHTTPStatus, "status 302", func(t *testing.T) wechat.Config {
			server, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
				http.Redirect(w, r, "/?"+r.URL.RawQuery, http.StatusFound)
			})
			return wechat.Config{BaseURL: server.URL}
		}},
		{"a timeout", wechat.ClassTimeout, "timed out after 20ms", func(t *testing.T) wechat.Config {
			server, _ := serve(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
			return wechat.Config{BaseURL: server.URL, Timeout: 20 * time.Millisecond}
		}},
		{"a connection closed before the answer", wechat.ClassTransport, "waiting for the answer: the connection was closed", func(t *testing.T) wechat.Config {
			return wechat.Config{BaseURL: "http://" + listen(t, func(net.Conn, string) {})}
		}},
		{"a connection closed within the answer", wechat.ClassTransport, "reading the answer: the connection was closed", func(t *testing.T) wechat.Config {
			return wechat.Config{BaseURL: "http://" + listen(t, func(conn net.Conn, header string) {
				_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"+header)
			})}
		}},
		{"a status line that echoes the request", wechat.ClassTransport, "withheld", func(t *testing.T) wechat.Config {
			return wechat.Config{BaseURL: "http://" + listen(t, func(conn net.Conn, header string) {
				_, _ = io.WriteString(conn, header)
			})}
		}},
		{"a header that echoes the request", wechat.ClassTransport, "withheld", func(t *testing.T) wechat.Config {
			return wechat.Config{BaseURL: "http://" + listen(t, func(conn net.Conn, header string) {
				_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\n"+header)
			})}
		}},
		{"an errmsg that echoes the request", wechat.ClassMisconfigured, "errcode 40125: secret=[redacted]", func(t *testing.T) wechat.Config {
			server, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
				_, _ = fmt.Fprintf(w, `{"errcode":40125,"errmsg":"secret=%s of %s"}`,
					url.QueryEscape(r.URL.Query().Get("secret")), r.URL.Query().Get("js_code"))
			})
			return wechat.Config{BaseURL: server.URL}
		}},
		{"a transport that quotes the URL", wechat.ClassTransport, "withheld", func(*testing.T) wechat.Config {
			return wechat.Config{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
				return nil, fmt.Errorf("tracing: %w", &url.Error{Op: "Get", URL: r.URL.String(), Err: errors.New(r.URL.RawQuery)})
			})}
		}},
		{"a transport whose OpError quotes the URL", wechat.ClassTransport, "withheld", func(*testing.T) wechat.Config {
			return wechat.Config{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
				return nil, &net.OpError{Op: "read", Net: r.URL.String(), Err: errors.New(r.URL.String())}
			})}
		}},
		{"a proxy that refuses the tunnel", wechat.ClassTransport, "status 407", func(t *testing.T) wechat.Config {
			proxy := listen(t, func(conn net.Conn, _ string) {
				_, _ = io.WriteString(conn, "HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
			})
			transport := wechat.NewTransport()
			transport.Proxy = http.ProxyURL(&url.URL{Scheme: "http", Host: proxy, User: url.UserPassword("u", secret)})
			return wechat.Config{Transport: transport}
		}},
	} {
		t.Run("after "+tc.name, func(t *testing.T) {
			t.Parallel()
			client := newClient(t, tc.config(t))
			_, err := client.ExchangeCode(t.Context(), credentials, code)
			if err == nil {
				t.Fatal("ExchangeCode() error = nil, want an error")
			}
			hidesSecrets(t, err)
			if got := wechat.Class(err); got != tc.class {
				t.Errorf("Class() = %s, want %s; error %v", got, tc.class, err)
			}
			if !strings.Contains(err.Error(), tc.says) {
				t.Errorf("error = %q, want %q in it", err, tc.says)
			}
			if got := auth.CodeOf(err); tc.class != wechat.ClassMisconfigured && got != auth.PlatformUnavailable {
				t.Errorf("CodeOf() = %s, want platform_unavailable", got)
			}
		})
	}
}

func TestProxyForHTTP(t *testing.T) {
	t.Setenv("HTTP_PROXY", "http://proxy.invalid:3128")
	t.Setenv("http_proxy", "http://proxy.invalid:3128")
	server, _ := serve(t, answer(http.StatusOK, success))
	// Not a loopback address: no proxy is used for these anyway.
	transport := wechat.NewTransport()
	transport.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		if addr != "wechatsim.example:80" {
			t.Errorf("the transport dialed %s", addr)
		}
		return (&net.Dialer{}).DialContext(ctx, network, server.Listener.Addr().String())
	}
	client := newClient(t, wechat.Config{BaseURL: "http://wechatsim.example", Transport: transport})
	if _, err := client.ExchangeCode(t.Context(), credentials, code); err != nil {
		t.Errorf("ExchangeCode() error = %v", err)
	}
}

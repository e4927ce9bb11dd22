package apitest

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
)

// Transport is an [http.RoundTripper] that holds what passes through it against
// the contract, at the hosts it was told to [Transport.Watch]. Traffic with
// other hosts passes unseen. It is safe for concurrent use.
type Transport struct {
	tb       testing.TB
	base     http.RoundTripper
	contract *Contract

	mu      sync.Mutex
	watched map[string]Listener
}

// NewTransport returns a transport that fails tb for each violation. Its
// requests must be over when tb is. A nil base is [http.DefaultTransport].
func NewTransport(tb testing.TB, base http.RoundTripper) *Transport {
	tb.Helper()
	contract, err := Load()
	if err != nil {
		tb.Fatal(err)
	}
	if base == nil {
		base = http.DefaultTransport
	}
	return &Transport{tb: tb, base: base, contract: contract, watched: map[string]Listener{}}
}

// Watch has the transport check all traffic with the host of baseURL, which is
// the given listener of the program.
func (t *Transport) Watch(baseURL string, l Listener) {
	t.tb.Helper()
	u, err := url.Parse(baseURL)
	if err != nil || u.Host == "" {
		t.tb.Fatalf("%q is no address of a listener: %v", baseURL, err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.watched[u.Host] = l
}

// RoundTrip implements [http.RoundTripper].
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	t.mu.Lock()
	l, watched := t.watched[req.URL.Host]
	t.mu.Unlock()
	if !watched {
		return t.base.RoundTrip(req)
	}
	var sent []byte
	if req.Body != nil {
		var err error
		sent, err = io.ReadAll(req.Body)
		if err = errors.Join(err, req.Body.Close()); err != nil {
			return nil, err
		}
		req = req.Clone(req.Context())
		req.Body = io.NopCloser(bytes.NewReader(sent))
	}
	resp, err := t.base.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	if strings.HasPrefix(resp.Header.Get("Content-Type"), "text/event-stream") {
		return resp, nil // it has no end to wait for
	}
	body, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close() // all that it had has been read
	resp.Body = io.NopCloser(io.MultiReader(bytes.NewReader(body), failing{err}))
	// Half an answer is the client's to judge.
	if err == nil {
		if violation := t.contract.Check(l, req, sent, resp, body); violation != nil {
			t.tb.Errorf("%s %s answers %d against openapi.yaml: %v\n%s", req.Method, req.URL.Path, resp.StatusCode, violation, body)
		}
	}
	return resp, nil
}

// CloseIdleConnections does so for the transport below.
func (t *Transport) CloseIdleConnections() {
	if c, ok := t.base.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}

// failing is a reader that has nothing but an error: none is the end.
type failing struct{ err error }

func (f failing) Read([]byte) (int, error) {
	if f.err != nil {
		return 0, f.err
	}
	return 0, io.EOF
}

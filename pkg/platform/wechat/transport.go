package wechat

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strconv"
	"sync/atomic"
	"time"
)

const (
	// maxAnswer bounds the body of an answer; WeChat's are below 1 KiB.
	maxAnswer = 64 << 10
	// maxAnswerHeader bounds the header of an answer.
	maxAnswerHeader = 16 << 10
	// idleTimeout is how long an idle connection is kept for the next call. It is well
	// below a minute, after which servers commonly close it: a request on a connection
	// that is being closed is lost and not repeated.
	idleTimeout = 20 * time.Second
	// maxUnsent is the maximum number of attempts for a request whose connection was dead
	// before anything was written.
	maxUnsent = 4
)

// NewTransport returns the default transport of a [Client]: TLS 1.2 or newer, only
// HTTP/1.1 (this package is tested against its rules of repetition), bounded answers, no
// compression.
//
// For https it uses a proxy from the environment (HTTPS_PROXY, NO_PROXY), which tunnels
// and sees only the host name. For http it does not: the proxy would read, and probably
// log, the secret in the URL.
func NewTransport() *http.Transport {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	return &http.Transport{
		Proxy: func(r *http.Request) (*url.URL, error) {
			if r.URL.Scheme != "https" {
				return nil, nil
			}
			proxy, err := http.ProxyFromEnvironment(r)
			if err != nil {
				// The error contains the setting with its password.
				return nil, proxyError("the proxy in HTTPS_PROXY is not a URL")
			}
			return proxy, nil
		},
		OnProxyConnectResponse: func(_ context.Context, _ *url.URL, _ *http.Request, resp *http.Response) error {
			if resp.StatusCode != http.StatusOK {
				return proxyError("the proxy in HTTPS_PROXY refused the tunnel with status " + strconv.Itoa(resp.StatusCode))
			}
			return nil
		},
		DialContext:            (&net.Dialer{KeepAlive: 15 * time.Second}).DialContext,
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12},
		Protocols:              protocols,
		DisableCompression:     true,
		MaxIdleConns:           64,
		MaxIdleConnsPerHost:    64,
		IdleConnTimeout:        idleTimeout,
		MaxResponseHeaderBytes: maxAnswerHeader,
	}
}

// proxyError is a failure of the proxy. Its text contains no secret.
type proxyError string

func (e proxyError) Error() string { return string(e) }

// get requests path and returns the body of a 200. Its errors are [*TransportError] and
// [*AnswerError], without anything from query.
func (c *Client) get(ctx context.Context, path string, query url.Values) ([]byte, error) {
	return c.call(ctx, path, query, nil)
}

// post is get with a JSON body.
func (c *Client) post(ctx context.Context, path string, query url.Values, body any) ([]byte, error) {
	encoded, err := json.Marshal(body)
	if err != nil {
		return nil, errors.New("wechat: the request cannot be encoded") // a bug; its text may contain the secret
	}
	return c.call(ctx, path, query, encoded)
}

func (c *Client) call(ctx context.Context, path string, query url.Values, content []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	target := c.base
	target.Path += path
	target.RawQuery = query.Encode()
	for attempt := 1; ; attempt++ {
		var p progress
		body, err := c.roundTrip(ctx, &target, content, &p)
		if err == nil || attempt == maxUnsent || !p.unsent() || ctx.Err() != nil {
			return body, err
		}
	}
}

// roundTrip sends one request at most once: a GET, or a POST if there is content.
func (c *Client) roundTrip(ctx context.Context, target *url.URL, content []byte, p *progress) ([]byte, error) {
	req := (&http.Request{
		Method:     http.MethodGet,
		URL:        target,
		Host:       target.Host,
		Proto:      "HTTP/1.1",
		ProtoMajor: 1,
		ProtoMinor: 1,
		Header:     http.Header{"User-Agent": {"yufu"}},
		// A body that cannot be rewound keeps net/http from repeating a GET. It is empty,
		// and with the identity encoding it does not show on the wire.
		Body:             emptyBody{},
		TransferEncoding: []string{"identity"},
	}).WithContext(httptrace.WithClientTrace(ctx, p.trace()))
	if content != nil {
		// A POST is not repeated by default, and its body cannot be rewound either.
		req.Method = http.MethodPost
		req.Header.Set("Content-Type", "application/json")
		req.Body, req.ContentLength, req.TransferEncoding = io.NopCloser(bytes.NewReader(content)), int64(len(content)), nil
	}

	// http.Client is not used: it follows redirects, and its errors contain the URL.
	resp, err := c.transport.RoundTrip(req)
	if err != nil {
		return nil, c.transportError(ctx, p, err)
	}
	defer func() { _ = resp.Body.Close() }() // an error here changes nothing
	if resp.StatusCode != http.StatusOK {
		return nil, &AnswerError{Status: resp.StatusCode, Reason: "not 200"}
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	// When we hang up over TLS, a server may still end its answer cleanly, so that a
	// partial answer looks complete.
	if err == nil && !json.Valid(body) {
		err = ctx.Err()
	}
	if err != nil {
		p.reach(phaseReading)
		return nil, c.transportError(ctx, p, err)
	}
	if len(body) > maxAnswer {
		return nil, &AnswerError{Status: resp.StatusCode, Reason: fmt.Sprintf("longer than %d bytes", maxAnswer)}
	}
	return body, nil
}

// emptyBody is an empty request body. net/http recognises its own empty body and would
// treat the request as repeatable.
type emptyBody struct{}

func (emptyBody) Read([]byte) (int, error) { return 0, io.EOF }
func (emptyBody) Close() error             { return nil }

// phase is the step that a call has reached; it only increases.
type phase int32

const (
	phaseStarting phase = iota
	phaseLookup
	phaseConnecting
	phaseTLS
	phaseConnected
	phaseSent
	phaseReading
)

func (p phase) String() string {
	return [...]string{
		"starting", "looking up the host", "connecting", "TLS handshake",
		"sending the request", "waiting for the answer", "reading the answer",
	}[p]
}

// progress tracks one request with the transport's trace. The trace's functions may run
// on other goroutines, some after the end of the request.
type progress struct {
	phase  atomic.Int32
	reused atomic.Bool
}

func (p *progress) reach(to phase) {
	for {
		at := p.phase.Load()
		if at >= int32(to) || p.phase.CompareAndSwap(at, int32(to)) {
			return
		}
	}
}

func (p *progress) at() phase { return phase(p.phase.Load()) }

// unsent reports whether a failed request provably left nothing on the wire: it got a
// kept connection, and that connection died before the transport began to write. net/http
// waits for its writer to stop before it reports a dead connection, so no write can
// follow.
func (p *progress) unsent() bool { return p.reused.Load() && p.at() == phaseConnected }

func (p *progress) trace() *httptrace.ClientTrace {
	return &httptrace.ClientTrace{
		DNSStart:          func(httptrace.DNSStartInfo) { p.reach(phaseLookup) },
		ConnectStart:      func(string, string) { p.reach(phaseConnecting) },
		TLSHandshakeStart: func() { p.reach(phaseTLS) },
		GotConn: func(info httptrace.GotConnInfo) {
			p.reused.Store(info.Reused)
			p.reach(phaseConnected)
		},
		// The first field is reported before its buffer can have been flushed, and the
		// end of writing is reported even if it failed.
		WroteHeaderField:     func(string, []string) { p.reach(phaseSent) },
		WroteRequest:         func(httptrace.WroteRequestInfo) { p.reach(phaseSent) },
		GotFirstResponseByte: func() { p.reach(phaseReading) },
	}
}

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
	// idleTimeout is how long a connection is kept for the next call: well
	// below the minute after which servers commonly hang up, because a request
	// that meets a connection being closed is lost and not repeated.
	idleTimeout = 20 * time.Second
	// maxUnsent bounds how often a request is begun anew after its connection
	// was found dead before anything was written.
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
				// The error quotes the setting, password and all.
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

// proxyError is trouble with the proxy, in words that are harmless.
type proxyError string

func (e proxyError) Error() string { return string(e) }

// get asks WeChat for path and returns the body of a 200. Its errors are
// [*TransportError] and [*AnswerError], free of anything in query.
func (c *Client) get(ctx context.Context, path string, query url.Values) ([]byte, error) {
	return c.call(ctx, path, query, nil)
}

// post is get with a JSON body.
func (c *Client) post(ctx context.Context, path string, query url.Values, body any) ([]byte, error) {
	encoded, err := json.Marshal(body)
	if err != nil {
		return nil, errors.New("wechat: the request cannot be encoded") // a defect; its text might quote the secret
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
		body, err := c.once(ctx, &target, content, &p)
		if err == nil || attempt == maxUnsent || !p.unsent() || ctx.Err() != nil {
			return body, err
		}
	}
}

// once sends one request at most once: a GET, or a POST if there is content.
func (c *Client) once(ctx context.Context, target *url.URL, content []byte, p *progress) ([]byte, error) {
	req := (&http.Request{
		Method:     http.MethodGet,
		URL:        target,
		Host:       target.Host,
		Proto:      "HTTP/1.1",
		ProtoMajor: 1,
		ProtoMinor: 1,
		Header:     http.Header{"User-Agent": {"yufu"}},
		// A body that cannot be rewound is what keeps net/http from repeating
		// a GET. It is empty, and with the identity encoding nothing of it
		// shows on the wire.
		Body:             emptyBody{},
		TransferEncoding: []string{"identity"},
	}).WithContext(httptrace.WithClientTrace(ctx, p.trace()))
	if content != nil {
		// A POST is not repeatable as it is, and its body cannot be rewound either.
		req.Method = http.MethodPost
		req.Header.Set("Content-Type", "application/json")
		req.Body, req.ContentLength, req.TransferEncoding = io.NopCloser(bytes.NewReader(content)), int64(len(content)), nil
	}

	// Not through http.Client: it follows redirects, and its errors quote the
	// URL.
	resp, err := c.transport.RoundTrip(req)
	if err != nil {
		return nil, c.transportError(ctx, p, err)
	}
	defer func() { _ = resp.Body.Close() }() // nothing hangs on it
	if resp.StatusCode != http.StatusOK {
		return nil, &AnswerError{Status: resp.StatusCode, Reason: "not 200"}
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	// A server that is told over TLS that we hang up may still end its answer in
	// good order, as if this were all of it.
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

// emptyBody is a request body without bytes that is not [http.NoBody], which
// would leave the request repeatable.
type emptyBody struct{}

func (emptyBody) Read([]byte) (int, error) { return 0, io.EOF }
func (emptyBody) Close() error             { return nil }

// phase is how far a call came; it only rises.
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

// progress follows one request by the transport's trace. The trace's functions
// may run on other goroutines, some after the request is over.
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

// unsent reports whether a failed request provably left nothing on the wire:
// it was given a kept connection, and that one died before the transport began
// to write. net/http waits for its writer to stop before it reports a dead
// connection, so that no write can follow.
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
		// The first field is reported before the buffer it stands in can have
		// been flushed, and the end of writing even when it failed.
		WroteHeaderField:     func(string, []string) { p.reach(phaseSent) },
		WroteRequest:         func(httptrace.WroteRequestInfo) { p.reach(phaseSent) },
		GotFirstResponseByte: func() { p.reach(phaseReading) },
	}
}

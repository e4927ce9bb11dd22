package webhook

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/netreason"
)

const (
	// DefaultTimeout bounds a request, from the lookup of the host to the last byte
	// of the answer: a user is waiting.
	DefaultTimeout = 5 * time.Second
	// DefaultConcurrency is the maximum number of concurrent requests.
	DefaultConcurrency = 64
	// maxShare is the divisor for the share of one app: a slow back end must not block
	// the users of other apps.
	maxShare = 4
	// maxAnswerHeader bounds the header of an answer, in bytes.
	maxAnswerHeader = 16 << 10
	// MaxKeys is the maximum number of secrets that sign one request.
	MaxKeys = 4
)

// Config limits the destinations, the number and the duration of requests. The zero value
// is useful: any host on the public Internet.
type Config struct {
	// AllowNetworks are allowed although they are not on the public Internet, for
	// example 10.1.0.0/16.
	AllowNetworks []netip.Prefix
	// AllowHosts, if not empty, are the only allowed hosts: hr.example.com, or
	// *.example.com for all its subdomains. Their addresses are still checked.
	AllowHosts []string
	// UnsafeLoopback allows the loopback network, and plain http to it, for
	// development and tests.
	UnsafeLoopback bool
	// Timeout is used instead of [DefaultTimeout].
	Timeout time.Duration
	// Concurrency is used instead of [DefaultConcurrency].
	Concurrency int
	// RootCAs are trusted instead of the system's.
	RootCAs *x509.CertPool
	// Clock returns the current time. Default time.Now.
	Clock func() time.Time
}

// Client asks webhooks. It is safe for concurrent use and holds no resources when
// no request is under way.
type Client struct {
	to          destinations
	timeout     time.Duration
	concurrency int
	clock       func() time.Time
	dialer      *net.Dialer
	transport   http.RoundTripper

	mu      sync.Mutex
	running int
	byApp   map[string]int // only apps with a request under way
}

// New returns a client, or an error that says what is wrong with the
// configuration. It does no I/O.
func New(cfg Config) (*Client, error) {
	c := &Client{
		to: destinations{
			networks:       slices.Clone(cfg.AllowNetworks),
			unsafeLoopback: cfg.UnsafeLoopback,
		},
		timeout:     cfg.Timeout,
		concurrency: cfg.Concurrency,
		clock:       cfg.Clock,
		byApp:       make(map[string]int),
	}
	for _, h := range cfg.AllowHosts {
		c.to.hosts = append(c.to.hosts, strings.ToLower(h))
	}
	if err := c.to.check(); err != nil {
		return nil, err
	}
	if cfg.Timeout < 0 || cfg.Concurrency < 0 {
		return nil, errors.New("webhook: Timeout and Concurrency must not be negative")
	}
	if c.timeout == 0 {
		c.timeout = DefaultTimeout
	}
	if c.concurrency == 0 {
		c.concurrency = DefaultConcurrency
	}
	if c.clock == nil {
		c.clock = time.Now
	}
	c.dialer = &net.Dialer{Control: c.to.control}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	c.transport = &http.Transport{
		// With a proxy, the check of addresses would see the proxy's address only.
		Proxy:                  nil,
		DialContext:            c.dialer.DialContext,
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: cfg.RootCAs},
		Protocols:              protocols,
		DisableKeepAlives:      true,
		DisableCompression:     true,
		MaxResponseHeaderBytes: maxAnswerHeader,
	}
	return c, nil
}

// CheckURL returns an error if the URL cannot be an app's webhook. Errors are
// [auth.InvalidRequest] and hold no part of the URL. Host names are not resolved.
func (c *Client) CheckURL(raw string) error {
	_, err := c.to.parse(raw)
	return err
}

// Endpoint is an app's webhook.
type Endpoint struct {
	// URL is accepted by [Client.CheckURL].
	URL string
	// Keys all sign each request: the current key and, while it is being replaced, the
	// previous one. There are 1 to [MaxKeys].
	Keys []Key
}

// Request is a user who wants to be bound.
type Request struct {
	AppID string
	// Identity is the user's uuid.
	Identity uuid.UUID
	// Fields are the user's input.
	Fields map[string]string
}

// typeBinding is the type in the request's body.
const typeBinding = "binding.requested"

type envelope struct {
	Type      string `json:"type"`
	Timestamp string `json:"timestamp"`
	Data      data   `json:"data"`
}

type data struct {
	App    string            `json:"app"`
	UUID   string            `json:"uuid"`
	Fields map[string]string `json:"fields"`
}

// Ask sends the request to the app's webhook and returns the person that it names.
//
// Errors: [*Refused], [auth.WebhookUnavailable], or the context's error when the
// caller gave up.
func (c *Client) Ask(ctx context.Context, to Endpoint, r Request) (Person, error) {
	u, err := c.to.parse(to.URL)
	if err != nil {
		return Person{}, unavailable(Failure{Reason: "the URL is no longer allowed: " + description(err)})
	}
	fail := func(f Failure) error {
		f.Host = u.Host
		return unavailable(f)
	}
	if len(to.Keys) == 0 || len(to.Keys) > MaxKeys || slices.ContainsFunc(to.Keys, func(k Key) bool { return k.key == nil }) {
		return Person{}, fail(Failure{Reason: "the app must have 1 to 4 webhook secrets"})
	}
	if !c.begin(r.AppID) {
		return Person{}, fail(Failure{Reason: "too many requests are under way"})
	}
	defer c.end(r.AppID)

	req, err := c.request(u.String(), to.Keys, r)
	if err != nil {
		return Person{}, err
	}
	within, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	status, body, err := c.send(req.WithContext(within))
	switch {
	case err != nil && ctx.Err() != nil:
		return Person{}, fmt.Errorf("webhook: the caller cancelled: %w", ctx.Err())
	case err != nil && within.Err() != nil:
		return Person{}, fail(Failure{Status: status, Reason: "timed out after " + c.timeout.String(), timeout: true})
	case err != nil:
		reason, timeout := reasonOf(err)
		return Person{}, fail(Failure{Status: status, Reason: reason, timeout: timeout})
	case status >= 300 && status < 400:
		return Person{}, fail(Failure{Status: status, Reason: "redirects are not followed; set webhook.url to the final URL"})
	case status < 200 || status >= 300:
		return Person{}, fail(Failure{Status: status, Reason: "the status must be 2xx"})
	case len(body) > MaxAnswer:
		return Person{}, fail(Failure{Status: status, Reason: "the answer is longer than " + strconv.Itoa(MaxAnswer) + " bytes"})
	}
	person, err := decodeAnswer(body)
	if refused := (*Refused)(nil); errors.As(err, &refused) {
		return Person{}, refused
	}
	if err != nil {
		return Person{}, fail(Failure{Status: status, Reason: "unusable answer: " + err.Error()})
	}
	return person, nil
}

// description returns the sentence of an [auth.Invalid].
func description(err error) string {
	var e *auth.Error
	if errors.As(err, &e) {
		return e.Description
	}
	return netreason.Withheld
}

// reasonOf returns why there was no answer.
func reasonOf(err error) (reason string, timeout bool) {
	if f := (*forbidden)(nil); errors.As(err, &f) {
		return f.Error(), false
	}
	return netreason.Of(err)
}

// request returns the signed request.
func (c *Client) request(target string, keys []Key, r Request) (*http.Request, error) {
	name, err := uuid.NewV7()
	if err != nil {
		return nil, fmt.Errorf("webhook: generate the request id: %w", err)
	}
	now := c.clock()
	fields := r.Fields
	if fields == nil {
		fields = map[string]string{}
	}
	body, err := json.Marshal(envelope{
		Type:      typeBinding,
		Timestamp: now.UTC().Format("2006-01-02T15:04:05.000Z07:00"),
		Data:      data{App: r.AppID, UUID: r.Identity.String(), Fields: fields},
	})
	if err != nil {
		return nil, errors.New("webhook: encode the request: failed") // a defect; its text might quote them
	}
	req, err := http.NewRequest(http.MethodPost, target, bytes.NewReader(body)) //nolint:noctx // it gets one where it is sent
	if err != nil {
		return nil, errors.New("webhook: create the request: failed") // a defect: it was parsed
	}
	req.GetBody = nil // sent at most once
	id := "msg_" + strings.ReplaceAll(name.String(), "-", "")
	// Lower case as in Standard Webhooks; HTTP ignores case.
	req.Header["webhook-id"] = []string{id}
	req.Header["webhook-timestamp"] = []string{strconv.FormatInt(now.Unix(), 10)}
	req.Header["webhook-signature"] = []string{signature(id, now, body, keys)}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", "yufu")
	return req, nil
}

// send sends the request and returns the status and, for a success, the body: up to
// [MaxAnswer] bytes and one more.
func (c *Client) send(req *http.Request) (status int, body []byte, err error) {
	// Not through http.Client, which follows redirects.
	resp, err := c.transport.RoundTrip(req)
	if err != nil {
		return 0, nil, err
	}
	defer func() { _ = resp.Body.Close() }() // nothing hangs on it
	if resp.StatusCode < 200 || resp.StatusCode >= 300 {
		return resp.StatusCode, nil, nil
	}
	body, err = io.ReadAll(io.LimitReader(resp.Body, MaxAnswer+1))
	// When we close a TLS connection, the server may end a partial answer properly, so
	// that it looks complete.
	if err == nil && !json.Valid(body) {
		err = req.Context().Err()
	}
	return resp.StatusCode, body, err
}

// begin reports whether one more request of the app may be under way.
func (c *Client) begin(appID string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	share := max(c.concurrency/maxShare, 1)
	if c.running >= c.concurrency || c.byApp[appID] >= share {
		return false
	}
	c.running++
	c.byApp[appID]++
	return true
}

func (c *Client) end(appID string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.running--
	if c.byApp[appID]--; c.byApp[appID] == 0 {
		delete(c.byApp, appID)
	}
}

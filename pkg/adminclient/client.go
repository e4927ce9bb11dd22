package adminclient

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
)

const (
	// defaultTimeout bounds a call of the default HTTP client: longer than the
	// service takes to give up.
	defaultTimeout = 15 * time.Second
	// maxAnswer bounds an answer in bytes. A page of 1,000 persons with the largest
	// attributes is a quarter of it.
	maxAnswer = 32 << 20
)

// Config holds what a [Client] needs. URL and ServiceKey are required.
type Config struct {
	// URL is the address of the admin listener, for example
	// http://127.0.0.1:8081.
	URL string
	// ServiceKey is sent with every request. openapi.yaml lists the scope that each
	// operation needs.
	ServiceKey string
	// HTTPClient sends the requests, without following redirects. By default it is
	// a client with a timeout of 15 s.
	HTTPClient *http.Client
}

// Client calls the admin API.
type Client struct {
	address string
	http    *http.Client
	// authorize sets the service key. As a function it keeps the key out of what
	// prints a Client.
	authorize func(http.Header)
}

// New returns a client, or an error for a malformed configuration. It does not
// connect.
func New(c Config) (*Client, error) {
	u, err := url.Parse(c.URL)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, errors.New("adminclient: Config.URL must be an address such as http://127.0.0.1:8081, without user, query and fragment")
	}
	if c.ServiceKey == "" || strings.ContainsFunc(c.ServiceKey, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return nil, errors.New("adminclient: Config.ServiceKey must be a service key, without spaces")
	}
	sender := http.Client{Timeout: defaultTimeout}
	if c.HTTPClient != nil {
		sender = *c.HTTPClient
	}
	sender.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &Client{
		address: strings.TrimRight(c.URL, "/"), http: &sender,
		authorize: func(h http.Header) { h.Set("Authorization", "Bearer "+c.ServiceKey) },
	}, nil
}

// call is a request.
type call struct {
	method, path string
	query        query
	contentType  string
	body         io.Reader
}

// get returns a call without a body.
func get(path string, q query) call { return call{method: http.MethodGet, path: path, query: q} }

// remove returns a call that deletes.
func remove(path string, q query) call { return call{method: http.MethodDelete, path: path, query: q} }

// send returns a call with a JSON body. The models are plain structs, and an
// attribute that is not JSON is the caller's error.
func send(method, path string, body any) (call, error) {
	b, err := json.Marshal(body)
	if err != nil {
		return call{}, fmt.Errorf("adminclient: the body cannot be encoded: %w", err)
	}
	return call{method: method, path: path, contentType: "application/json", body: bytes.NewReader(b)}, nil
}

// post sends a JSON body and returns the answer.
func post[T any](ctx context.Context, c *Client, path string, body any) (*T, error) {
	r, err := send(http.MethodPost, path, body)
	if err != nil {
		return nil, err
	}
	return answer[T](ctx, c, r)
}

// patch sends a JSON body and returns the answer.
func patch[T any](ctx context.Context, c *Client, path string, body any) (*T, error) {
	r, err := send(http.MethodPatch, path, body)
	if err != nil {
		return nil, err
	}
	return answer[T](ctx, c, r)
}

// answer makes a call and returns its answer.
func answer[T any](ctx context.Context, c *Client, r call) (*T, error) {
	status, header, body, err := c.do(ctx, r)
	if err != nil {
		return nil, err
	}
	mediaType, _, _ := mime.ParseMediaType(header.Get("Content-Type"))
	var v T
	if mediaType != "application/json" || json.Unmarshal(body, &v) != nil {
		return nil, &Error{StatusCode: status} // another server is at the address
	}
	return &v, nil
}

// do makes a call. Its error is an [*Error] when there was an answer.
func (c *Client) do(ctx context.Context, r call) (status int, header http.Header, body []byte, err error) {
	target := c.address + "/admin/v1/" + r.path
	if len(r.query) > 0 {
		target += "?" + url.Values(r.query).Encode()
	}
	req, err := http.NewRequestWithContext(ctx, r.method, target, r.body)
	if err != nil {
		return 0, nil, nil, fmt.Errorf("adminclient: %w", withoutURL(err))
	}
	c.authorize(req.Header)
	if r.contentType != "" {
		req.Header.Set("Content-Type", r.contentType)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return 0, nil, nil, fmt.Errorf("yufu admin API: %w", withoutURL(err))
	}
	defer resp.Body.Close() //nolint:errcheck // it was only read
	body, err = io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	switch {
	case err != nil:
		return 0, nil, nil, fmt.Errorf("yufu admin API: the answer ended early: %w", err)
	case len(body) > maxAnswer:
		return 0, nil, nil, fmt.Errorf("yufu admin API: the answer is longer than %d bytes", maxAnswer)
	case resp.StatusCode < 200 || resp.StatusCode > 299:
		return 0, nil, nil, errorOf(resp, body)
	}
	return resp.StatusCode, resp.Header, body, nil
}

// withoutURL drops the address from an error of the HTTP client: its query may name
// a person.
func withoutURL(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

// segment returns an id as part of a path.
func segment(id string) string { return url.PathEscape(id) }

// query holds the parameters of a request.
type query url.Values

// text adds a parameter. An empty one is sent: the service refuses it, because a
// search for the value of an empty variable must not find everything.
func (q query) text(name string, value *string) query {
	if value != nil {
		url.Values(q).Set(name, *value)
	}
	return q
}

// id adds a parameter as [query.text] does.
func (q query) id(name string, value *uuid.UUID) query {
	if value != nil {
		url.Values(q).Set(name, value.String())
	}
	return q
}

func (q query) time(name string, value time.Time) query {
	if !value.IsZero() {
		url.Values(q).Set(name, value.Format(time.RFC3339Nano))
	}
	return q
}

func (q query) reason(reason string) query {
	if reason != "" {
		url.Values(q).Set("reason", reason)
	}
	return q
}

func (q query) flag(name string, value bool) query {
	if value {
		url.Values(q).Set(name, "true")
	}
	return q
}

func (q query) page(p Page) query {
	if p.Limit != 0 {
		url.Values(q).Set("limit", strconv.Itoa(p.Limit))
	}
	if p.Cursor != "" {
		url.Values(q).Set("cursor", p.Cursor)
	}
	return q
}

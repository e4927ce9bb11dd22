package wechat

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/platform"
	"github.com/yufu-auth/yufu/pkg/platform/accesstoken"
	"github.com/yufu-auth/yufu/pkg/seal"
)

// DefaultBaseURL is the address of WeChat's API.
const DefaultBaseURL = "https://api.weixin.qq.com"

// DefaultTimeout bounds one call, from looking up the host to the last byte of
// the answer.
const DefaultTimeout = 5 * time.Second

// maxCodeLen is well above the 32 characters of codes so far.
const maxCodeLen = 128

// maxSecretLen is well above the 32 characters of an AppSecret.
const maxSecretLen = 256

var (
	// ErrCodeMalformed is the cause when a code cannot be one of WeChat's; nothing was
	// sent. An example is the literal code of the developer tools' tourist mode.
	ErrCodeMalformed = fmt.Errorf("wechat: malformed code, %w", platform.ErrNotSent)
	// ErrCredentials is the cause when appid, secret or openid is malformed; nothing was
	// sent.
	ErrCredentials = fmt.Errorf("wechat: the appid, secret or openid is empty or malformed, %w", platform.ErrNotSent)
	// ErrNoTokenStore is the cause when a call needs an access token and the client has
	// no store for one; nothing was sent.
	ErrNoTokenStore = fmt.Errorf("wechat: no store for access tokens, %w", platform.ErrNotSent)
)

// Config configures the client. The zero value is production.
type Config struct {
	// BaseURL replaces [DefaultBaseURL]: http or https, a host, and an optional path
	// prefix. The server at this address sees every AppSecret, and with http every host
	// on the network path does too.
	BaseURL string
	// Timeout replaces [DefaultTimeout].
	Timeout time.Duration
	// Transport replaces [NewTransport]. It must neither repeat nor redirect requests by
	// itself.
	Transport http.RoundTripper
	// Tokens stores the access tokens of all apps, for all replicas, and Sealer seals
	// them. Without them the client supports only log-ins.
	Tokens accesstoken.Store
	Sealer *seal.Ring
	// Clock returns the current time. Default time.Now.
	Clock func() time.Time
}

// Client calls WeChat. It is safe for concurrent use.
type Client struct {
	base      url.URL
	timeout   time.Duration
	transport http.RoundTripper
	clock     func() time.Time
	tokens    *accesstoken.Holder // nil without a store
}

var _ platform.Provider = (*Client)(nil)

// New returns a client, or an error for an invalid configuration. It does no I/O.
func New(cfg Config) (*Client, error) {
	raw := cfg.BaseURL
	if raw == "" {
		raw = DefaultBaseURL
	}
	base, err := url.Parse(raw)
	switch {
	case err != nil:
		// The parser's error quotes the URL, which may hold a password.
		return nil, errors.New("wechat: the base URL cannot be parsed; it must look like " + DefaultBaseURL)
	case base.Scheme != "http" && base.Scheme != "https", base.Host == "":
		return nil, errors.New("wechat: the base URL must have http or https and a host, like " + DefaultBaseURL)
	case base.User != nil, base.RawQuery != "", base.ForceQuery, base.Fragment != "":
		return nil, errors.New("wechat: the base URL must not have a user, query or fragment; it must look like " + DefaultBaseURL)
	case cfg.Timeout < 0:
		return nil, errors.New("wechat: Timeout must not be negative")
	case (cfg.Tokens == nil) != (cfg.Sealer == nil):
		return nil, errors.New("wechat: set the store for access tokens and its sealer together")
	}
	c := &Client{
		base:      url.URL{Scheme: base.Scheme, Host: base.Host, Path: strings.TrimRight(base.Path, "/")},
		timeout:   cfg.Timeout,
		transport: cfg.Transport,
		clock:     cfg.Clock,
	}
	if c.timeout == 0 {
		c.timeout = DefaultTimeout
	}
	if c.transport == nil {
		c.transport = NewTransport()
	}
	if c.clock == nil {
		c.clock = time.Now
	}
	if cfg.Tokens != nil {
		c.tokens = accesstoken.New(accesstoken.Config{
			Store: cfg.Tokens, Sealer: cfg.Sealer, Fetch: c.fetchToken, Ration: tokenRation, Clock: c.clock,
		})
	}
	return c, nil
}

// CloseIdleConnections closes the connections that are kept for the next call.
// The client stays usable.
func (c *Client) CloseIdleConnections() {
	if t, ok := c.transport.(interface{ CloseIdleConnections() }); ok {
		t.CloseIdleConnections()
	}
}

// ExchangeCode implements [platform.Provider] with code2Session. The package
// comment lists the causes its errors carry.
func (c *Client) ExchangeCode(ctx context.Context, app platform.Credentials, code string) (platform.Account, error) {
	if !validCode(code) {
		return platform.Account{}, &auth.Error{Code: auth.CodeInvalid, Err: ErrCodeMalformed}
	}
	if !validCredentials(app) {
		return platform.Account{}, &auth.Error{Code: auth.PlatformMisconfigured, Err: ErrCredentials}
	}
	secret := appSecret(app).Reveal()
	body, err := c.get(ctx, "/sns/jscode2session", url.Values{
		"appid":      {app.AppID},
		"secret":     {secret},
		"js_code":    {code},
		"grant_type": {"authorization_code"},
	})
	if err != nil {
		if ctx.Err() != nil {
			return platform.Account{}, fmt.Errorf("wechat: the caller cancelled: %w", ctx.Err())
		}
		return platform.Account{}, failure(err)
	}
	account, err := decodeSession(body, secret, code)
	if err != nil {
		return platform.Account{}, failure(err)
	}
	return account, nil
}

func appSecret(app platform.Credentials) auth.Secret { return app.Secrets[auth.CredentialAppSecret] }

// validCredentials reports whether appid and secret are well-formed.
func validCredentials(app platform.Credentials) bool {
	secret := appSecret(app)
	return auth.ValidAppID(app.AppID) && secret != "" && len(secret) <= maxSecretLen
}

// validCode reports whether s may be sent as a code: letters, digits, hyphen
// and underscore. WeChat does not document the alphabet; the codes it issues
// are letters and digits.
func validCode(s string) bool {
	return s != "" && len(s) <= maxCodeLen && !strings.ContainsFunc(s, func(r rune) bool {
		return !('0' <= r && r <= '9' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || r == '-' || r == '_')
	})
}

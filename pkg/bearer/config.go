package bearer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// DefaultMaxStaleness is the maximum age of revocation data, unless [Config] or the
// service sets a lower one.
const DefaultMaxStaleness = 30 * time.Second

// DefaultTokenMemory is the bound on the memory for verified tokens, in bytes, unless
// [Config] sets another one. It is enough for more than 100,000 tokens.
const DefaultTokenMemory = 16 << 20

// Config configures which tokens a back end accepts. Only Issuer is required.
type Config struct {
	// Issuer is the service's YUFU_ISSUER. It must equal a token's iss byte for byte.
	Issuer string
	// Audience must be among a token's audiences. Empty, or the issuer, which is an
	// audience of every token, sets no audience.
	Audience string
	// Apps are the mini-programs (client_id) whose tokens are accepted. With an
	// Audience too, a token must satisfy both.
	//
	// With neither an Audience nor Apps, the tokens of one app are accepted: the one to
	// which the service key is pinned. The service stores the pin at the key's first use,
	// if exactly one app is enabled then. An app that is registered later is not accepted
	// and changes nothing. If the key has no pin, every token is refused with
	// [ErrMisconfigured]. Without a service key there is no such app: New fails.
	Apps []string
	// ServiceKey is a key with the scope "service". It authorises this back end to follow
	// the revocation feed. White space around it is ignored. Without a key the verifier
	// is offline; the package comment lists the consequences.
	ServiceKey string
	// URL is the base URL of the service, if this back end reaches it by another address
	// than the issuer.
	URL string
	// MaxStaleness is the maximum age of revocation data. When the data is older, tokens
	// are refused with [ErrStale]. It can lower the bound that the service announces, but
	// not raise it. Zero means [DefaultMaxStaleness].
	MaxStaleness time.Duration
	// Algorithms restricts the JWS algorithms to some of ES256, EdDSA and RS256. Empty
	// means all three. A key is only valid for its own algorithm.
	Algorithms []string
	// TokenMemory bounds the memory for verified tokens, in bytes. A token takes about 100
	// bytes, and what the tokens of an app share takes about 500, of an eighth of the
	// memory. The memory grows as it is needed. A token that does not fit is verified at
	// each use. Zero means [DefaultTokenMemory]. A negative number remembers no token.
	TokenMemory int
	// HTTPClient fetches keys and follows the feed. Its Timeout is ignored, because the
	// feed never ends, and it follows no redirects. Nil means a client with the defaults
	// of package http.
	HTTPClient *http.Client
	// Logger gets trouble with the service and, once a minute, each reason why tokens are
	// invalid. Nil discards the log. Tokens are never logged.
	Logger *slog.Logger
	// OnRefused is called for every token that [Verifier.Verify] refuses, with the
	// context and the error of that call, for a metric or a log of your own. It is called
	// before Verify returns, from many goroutines concurrently. In the middleware the
	// context is the request's.
	OnRefused func(ctx context.Context, err error)

	// UnsafePlainHTTP allows http to hosts other than this one. An attacker who can
	// tamper with that traffic chooses the keys that verify tokens, and reads the service
	// key.
	UnsafePlainHTTP bool
	// UnsafeAcceptStale accepts tokens regardless of the age of the revocation data, even
	// before any has arrived. An attacker who cuts this back end off from the service
	// makes revocations ineffective until the tokens expire.
	UnsafeAcceptStale bool
}

// base returns the URL of the service without a slash at the end.
func (c *Config) base() (string, error) {
	if c.Issuer == "" {
		return "", errors.New("bearer: Config.Issuer must be set")
	}
	field, raw := "Issuer", c.Issuer
	if c.URL != "" {
		field, raw = "URL", c.URL
	}
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || (u.Scheme != "https" && u.Scheme != "http") {
		return "", fmt.Errorf("bearer: Config.%s must be a base URL such as https://auth.example.com", field)
	}
	if u.Scheme == "http" && !c.UnsafePlainHTTP && !isLoopback(u.Hostname()) {
		return "", fmt.Errorf("bearer: Config.%s must be https unless the host is this one; UnsafePlainHTTP allows http", field)
	}
	return strings.TrimRight(u.String(), "/"), nil
}

// check validates the fields that base does not.
func (c *Config) check() error {
	if c.MaxStaleness < 0 {
		return errors.New("bearer: Config.MaxStaleness must not be negative")
	}
	for _, a := range c.Algorithms {
		if !slices.Contains(algorithms, a) {
			return fmt.Errorf("bearer: Config.Algorithms has %q, must be among %s", a, strings.Join(algorithms, ", "))
		}
	}
	if err := checkApps(c.Apps); err != nil {
		return err
	}
	if strings.TrimSpace(c.ServiceKey) == "" && !c.selectsTokens() {
		return errors.New("bearer: set Config.Audience or Config.Apps: without a ServiceKey, nothing else separates this back end's tokens from those of the issuer's other apps")
	}
	for _, r := range strings.TrimSpace(c.ServiceKey) {
		if r <= ' ' || r > '~' {
			return errors.New("bearer: Config.ServiceKey has an invalid character")
		}
	}
	return nil
}

// selectsTokens reports whether Audience or Apps select the accepted tokens.
func (c *Config) selectsTokens() bool {
	return len(c.Apps) > 0 || (c.Audience != "" && c.Audience != c.Issuer)
}

// maxApp bounds an appid, in bytes.
const maxApp = 64

// checkApps refuses strings that are not appids: [A-Za-z0-9]{1,64}.
func checkApps(apps []string) error {
	for _, app := range apps {
		ok := app != "" && len(app) <= maxApp
		for _, r := range app {
			ok = ok && (r >= '0' && r <= '9' || r >= 'A' && r <= 'Z' || r >= 'a' && r <= 'z')
		}
		if !ok {
			return fmt.Errorf("bearer: Apps has %q, must be appids of 1 to 64 letters and digits", app)
		}
	}
	return nil
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || (ip != nil && ip.IsLoopback())
}

// client returns a copy of the configured client with our timeout and redirect settings,
// and a function that closes the idle connections if the client is our own.
func (c *Config) client() (client *http.Client, closeIdle func()) {
	copied := http.Client{}
	closeIdle = func() {}
	if c.HTTPClient != nil {
		copied = *c.HTTPClient
	} else if t, ok := http.DefaultTransport.(*http.Transport); ok {
		copied.Transport = t.Clone()
		closeIdle = copied.CloseIdleConnections
	}
	copied.Timeout = 0
	copied.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &copied, closeIdle
}

func (c *Config) logger() *slog.Logger {
	if c.Logger != nil {
		return c.Logger
	}
	return slog.New(slog.NewTextHandler(io.Discard, &slog.HandlerOptions{Level: slog.Level(math.MaxInt32)}))
}

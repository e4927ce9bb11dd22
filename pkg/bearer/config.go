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

// DefaultMaxStaleness is how old the knowledge of revocations may be unless
// [Config] or the service says less.
const DefaultMaxStaleness = 30 * time.Second

// defaultCacheSize is how many tokens are remembered unless told otherwise: at
// most about 16 MiB.
const defaultCacheSize = 8192

// Config says whose tokens a back end accepts. Issuer is the only field without
// a useful zero value.
type Config struct {
	// Issuer is the service's YUFU_ISSUER, byte for byte: a token's iss must be
	// this.
	Issuer string
	// Audience must be among a token's audiences. Empty, or the issuer, which every
	// token is for, sets no audience.
	Audience string
	// Apps are the mini-programs (client_id) whose tokens are accepted. With an
	// Audience too, a token must satisfy both.
	//
	// With neither an Audience nor Apps, the tokens of one app are accepted: the one
	// to which the service key is pinned. The service stores the pin when the key is
	// used for the first time, if it has one enabled app by then, so an app that is
	// registered later neither gets in nor changes anything. If the key is pinned to
	// no app, every token is refused with [ErrMisconfigured]. Without a service key
	// nothing says which app that would be: New fails.
	Apps []string
	// ServiceKey authorises following the revocation feed: a key with the scope
	// "service". White space around it is ignored. Without one the verifier is
	// offline: see the package comment for what that gives up.
	ServiceKey string
	// URL is the base URL of the service when this back end reaches it by
	// another address than the issuer.
	URL string
	// MaxStaleness is how old the knowledge of revocations may grow before
	// tokens are refused with [ErrStale]. It can lower the bound that the
	// service announces, never raise it. Zero means [DefaultMaxStaleness].
	MaxStaleness time.Duration
	// Algorithms restricts the JWS algorithms, to some of ES256, EdDSA and
	// RS256. Empty means all three; a key is good for its own only.
	Algorithms []string
	// CacheSize is how many verified tokens are remembered, at least; it is
	// rounded up to a power of two. Zero means 8192, which is at most about
	// 16 MiB; a negative size remembers none.
	CacheSize int
	// HTTPClient fetches keys and follows the feed. Its Timeout is not used, as
	// the feed never ends, and it follows no redirects. Nil means a client with
	// the defaults of package http.
	HTTPClient *http.Client
	// Logger hears of trouble with the service, and once a minute for each reason why
	// tokens are invalid. Nil discards. It never hears a token.
	Logger *slog.Logger
	// OnRefused is called for every token that [Verifier.Verify] refuses, with the
	// context and the error of that call, for a metric or a log of your own. It is
	// called before Verify returns, from many goroutines at once. In the middleware the
	// context is the request's.
	OnRefused func(ctx context.Context, err error)

	// UnsafePlainHTTP allows http to hosts other than this one. Whoever can
	// tamper with that traffic chooses the keys that tokens are signed with,
	// and reads the service key.
	UnsafePlainHTTP bool
	// UnsafeAcceptStale accepts tokens however old the knowledge of revocations
	// is, even before there is any. Who cuts this back end off from the service
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

// check validates what base does not.
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

// selectsTokens reports whether Audience or Apps say which tokens are accepted.
func (c *Config) selectsTokens() bool {
	return len(c.Apps) > 0 || (c.Audience != "" && c.Audience != c.Issuer)
}

// maxApp bounds an appid, in bytes.
const maxApp = 64

// checkApps refuses what is no appid: [A-Za-z0-9]{1,64}.
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

// client returns a copy of the configured client that fits our use, and a
// function that closes the idle connections of a client of our own.
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

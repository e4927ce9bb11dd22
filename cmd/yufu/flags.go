package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/yufu-auth/yufu/cmd/yufu/internal/setting"
	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/keyring"
	"github.com/yufu-auth/yufu/pkg/seal"
	"github.com/yufu-auth/yufu/pkg/session"
	"github.com/yufu-auth/yufu/pkg/telemetry"
)

// listenFlags are the addresses of the two listeners.
type listenFlags struct {
	Listen      string `env:"YUFU_LISTEN" default:"127.0.0.1:8080" group:"Listeners:" placeholder:"HOST:PORT" help:"Address of the public API."`
	AdminListen string `env:"YUFU_ADMIN_LISTEN" default:"127.0.0.1:8081" group:"Listeners:" placeholder:"HOST:PORT" help:"Address of the admin API, health checks and metrics. Keep it private."`
}

// lifetimeFlags are how long things live.
type lifetimeFlags struct {
	AccessTokenTTL time.Duration `name:"access-token-ttl" env:"YUFU_ACCESS_TOKEN_TTL" default:"10m" group:"Lifetimes:" placeholder:"DURATION" help:"Lifetime of an access token, at most 1h."`
	RefreshGrace   time.Duration `env:"YUFU_REFRESH_GRACE" default:"60s" group:"Lifetimes:" placeholder:"DURATION" help:"How long after a refresh the refresh token that was used still yields the same successor, at most 10m. Later, whoever sends it again ends the session."`
	SessionIdleTTL time.Duration `name:"session-idle-ttl" env:"YUFU_SESSION_IDLE_TTL" default:"720h" group:"Lifetimes:" placeholder:"DURATION" help:"A session that is not refreshed for this long expires."`
	sessionMaxFlag
	MaxStaleness time.Duration `env:"YUFU_MAX_STALENESS" default:"30s" group:"Lifetimes:" placeholder:"DURATION" help:"How old the knowledge of revocations may be of whoever follows their feed, 10s to 5m: what is older refuses every token."`
}

type sessionMaxFlag struct {
	SessionMaxTTL time.Duration `name:"session-max-ttl" env:"YUFU_SESSION_MAX_TTL" default:"4320h" group:"Lifetimes:" placeholder:"DURATION" help:"A session expires after this long, however often it is refreshed."`
}

// rotationFlags are how keys take over from each other.
type rotationFlags struct {
	KeyRotation time.Duration `env:"YUFU_KEY_ROTATION" default:"720h" group:"Lifetimes:" placeholder:"DURATION" help:"How long a key signs tokens before the next one takes over by itself, at least 1h; 0 leaves it to yufu keys rotate."`
	jwksFlag
}

type jwksFlag struct {
	JWKSMaxAge time.Duration `name:"jwks-max-age" env:"YUFU_JWKS_MAX_AGE" default:"5m" group:"Lifetimes:" placeholder:"DURATION" help:"How long back ends may keep a copy of the JWK set: what its Cache-Control says, 1s to 24h. A key is published for longer than that before it signs. The commands work with the value of the running service if it is longer."`
}

// policy is the settings of how keys change.
func (f rotationFlags) policy(sessionMax time.Duration) keyring.Policy {
	return keyring.Policy{Rotation: f.KeyRotation, JWKSMaxAge: f.JWKSMaxAge, SessionMaxTTL: sessionMax}
}

// Bounds of the staleness. The feed's heartbeat comes every 5 s, and one may be
// late; the cutoffs are kept 5 min longer than any access token lives.
const (
	minStaleness = 10 * time.Second
	maxStaleness = auth.CutoffRetention - auth.MaxAccessTokenTTL
)

func (f lifetimeFlags) lifetimes() session.Lifetimes {
	return session.Lifetimes{Grace: f.RefreshGrace, Idle: f.SessionIdleTTL, Max: f.SessionMaxTTL}
}

func (f lifetimeFlags) check() error {
	if f.AccessTokenTTL < time.Second || f.AccessTokenTTL > auth.MaxAccessTokenTTL {
		return fmt.Errorf("YUFU_ACCESS_TOKEN_TTL: an access token lives 1s to %s, not %s", auth.MaxAccessTokenTTL, f.AccessTokenTTL)
	}
	if f.SessionIdleTTL <= f.AccessTokenTTL {
		return fmt.Errorf("YUFU_SESSION_IDLE_TTL (%s) must be longer than YUFU_ACCESS_TOKEN_TTL (%s): a client refreshes when its access token has expired", f.SessionIdleTTL, f.AccessTokenTTL)
	}
	if f.MaxStaleness < minStaleness || f.MaxStaleness > maxStaleness {
		return fmt.Errorf("YUFU_MAX_STALENESS: it is %s to %s, not %s", minStaleness, maxStaleness, f.MaxStaleness)
	}
	if err := f.lifetimes().Check(); err != nil {
		return fmt.Errorf("YUFU_REFRESH_GRACE, YUFU_SESSION_IDLE_TTL, YUFU_SESSION_MAX_TTL: %w", err)
	}
	return nil
}

// limitFlags bound what clients may do.
type limitFlags struct {
	ExchangeFailureLimit int `env:"YUFU_EXCHANGE_FAILURE_LIMIT" default:"120" group:"Limits:" placeholder:"N" help:"Log-ins a minute that the platform refused, per app, client network (an IPv4 address or an IPv6 /64) and replica. Above the limit one a second gets through. 0 is no limit."`
	ExchangeSuccessLimit int `env:"YUFU_EXCHANGE_SUCCESS_LIMIT" default:"6000" group:"Limits:" placeholder:"N" help:"Log-ins a minute per app, client network and replica. Above the limit one a second gets through. 0 is no limit. A carrier puts thousands of phones behind one address."`
	SessionLimit         int `env:"YUFU_SESSION_LIMIT" default:"50" group:"Limits:" placeholder:"N" help:"Live sessions an identity may have; with one more the oldest ends. 0 is no limit."`
	PlatformConcurrency  int `env:"YUFU_PLATFORM_CONCURRENCY" default:"128" group:"Limits:" placeholder:"N" help:"Calls to WeChat under way at once, per replica."`
	MaxConnections       int `env:"YUFU_MAX_CONNECTIONS" default:"10000" group:"Limits:" placeholder:"N" help:"Connections to the public listener at once. For a further one the connection that has been idle longest is closed. One client network may have half of them, a trusted proxy all."`
}

func (f limitFlags) check() error {
	var errs []error
	for _, l := range []struct {
		name     string
		n        int
		from, to int
	}{
		{"YUFU_EXCHANGE_FAILURE_LIMIT", f.ExchangeFailureLimit, 0, 1_000_000},
		{"YUFU_EXCHANGE_SUCCESS_LIMIT", f.ExchangeSuccessLimit, 0, 1_000_000},
		{"YUFU_SESSION_LIMIT", f.SessionLimit, 0, 1000},
		{"YUFU_PLATFORM_CONCURRENCY", f.PlatformConcurrency, 1, 100_000},
		{"YUFU_MAX_CONNECTIONS", f.MaxConnections, 1, 1_000_000},
	} {
		if l.n < l.from || l.n > l.to {
			errs = append(errs, fmt.Errorf("%s: it is %d to %d, not %d", l.name, l.from, l.to, l.n))
		}
	}
	return errors.Join(errs...)
}

// gateFlags are about forward-auth.
type gateFlags struct {
	VerifyCookie string `env:"YUFU_VERIFY_COOKIE" group:"Listeners:" placeholder:"NAME" help:"Cookie from which /v1/verify takes the access token when a request has no Authorization header, for programs that still send Cookie: JSESSIONID=…; never from a browser. Without it none is."`
}

func (f gateFlags) check() error {
	if f.VerifyCookie == "" || (&http.Cookie{Name: f.VerifyCookie, Value: "x"}).Valid() == nil {
		return nil
	}
	return errors.New("YUFU_VERIFY_COOKIE: it is the name of a cookie: letters, digits, - and _")
}

// proxyFlags say whom to believe about a client's address.
type proxyFlags struct {
	TrustedProxies      []string `env:"YUFU_TRUSTED_PROXIES" group:"Listeners:" placeholder:"CIDR" help:"Networks of the proxies before the public listener, for example 10.0.0.0/8, separated by commas: their X-Forwarded-For is believed. Without it every address is that of the connection, and limits count the proxy as one client."`
	AdminTrustedProxies []string `env:"YUFU_ADMIN_TRUSTED_PROXIES" group:"Listeners:" placeholder:"CIDR" help:"The same for the admin listener."`
}

// proxies returns both lists.
func (f proxyFlags) proxies() (public, admin []netip.Prefix, err error) {
	public, err = setting.ParsePrefixes("YUFU_TRUSTED_PROXIES", f.TrustedProxies)
	admin, adminErr := setting.ParsePrefixes("YUFU_ADMIN_TRUSTED_PROXIES", f.AdminTrustedProxies)
	return public, admin, errors.Join(err, adminErr)
}

// databaseFlags say where the data lives.
type databaseFlags struct {
	DatabaseURL     string `env:"YUFU_DATABASE_URL" group:"Database and keys:" placeholder:"URL" help:"postgres://user:password@host/database (PostgreSQL 14 or newer; several hosts allowed), or sqlite:PATH."`
	DatabaseURLFile string `env:"YUFU_DATABASE_URL_FILE" group:"Database and keys:" placeholder:"FILE" help:"Read the database URL from this file instead, to keep its password out of the environment; - is standard input."`
}

func (f databaseFlags) database(std streams, log *slog.Logger) (setting.Database, error) {
	name, url := "YUFU_DATABASE_URL", f.DatabaseURL
	if f.DatabaseURLFile != "" {
		if url != "" {
			return setting.Database{}, errors.New("YUFU_DATABASE_URL and YUFU_DATABASE_URL_FILE are both set; unset one")
		}
		b, err := setting.ReadSecretFile("YUFU_DATABASE_URL_FILE", f.DatabaseURLFile, std.in, warnTo(log))
		if err != nil {
			return setting.Database{}, err
		}
		name, url = "YUFU_DATABASE_URL_FILE", string(b)
	}
	return setting.ParseDatabaseURL(name, url)
}

const masterKeySetting = "YUFU_MASTER_KEY_FILE"

// masterKeyFlag says where the master keys are.
type masterKeyFlag struct {
	MasterKeyFile string `env:"YUFU_MASTER_KEY_FILE" group:"Database and keys:" placeholder:"FILE" help:"File of base64 32-byte keys that seal secrets in the database, one a line; the first seals, all open. Make one with: openssl rand -base64 32."`
}

func (f masterKeyFlag) ring(std streams, log *slog.Logger) (*seal.Ring, error) {
	const name = masterKeySetting
	if f.MasterKeyFile == "" {
		return nil, errors.New(name + " is missing: set it to the file with the master key of this database, FILE; for a new database make one, where there is none yet, with: openssl rand -base64 32 > FILE && chmod 600 FILE")
	}
	b, err := setting.ReadSecretFile(name, f.MasterKeyFile, std.in, warnTo(log))
	if err != nil {
		return nil, err
	}
	ring, err := seal.ParseRing(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %s: %w; make a key with: openssl rand -base64 32", name, f.MasterKeyFile, err)
	}
	return ring, nil
}

// logFlags say what is logged and how.
type logFlags struct {
	LogLevel string `env:"YUFU_LOG_LEVEL" default:"info" group:"Operation:" placeholder:"LEVEL" help:"What to log: debug, info, warn or error, and what is graver."`
	// An empty format means the command's own: json to serve, text to look at.
	LogFormat string `env:"YUFU_LOG_FORMAT" group:"Operation:" placeholder:"FORMAT" help:"How to log: json or text. Without it, serve logs json, and every other command text."`
}

func (f logFlags) logger(std streams) (*slog.Logger, error) {
	level, err := telemetry.ParseLevel(f.LogLevel)
	if err != nil {
		return nil, fmt.Errorf("YUFU_LOG_LEVEL: %w", err)
	}
	return f.loggerAt(std, "text", level)
}

// loggerAt is [logFlags.logger] with a level of its own.
func (f logFlags) loggerAt(std streams, format string, level slog.Leveler) (*slog.Logger, error) {
	if f.LogFormat != "" {
		format = strings.ToLower(f.LogFormat)
	}
	log, err := telemetry.NewLogger(std.err, format, level)
	if err != nil {
		return nil, fmt.Errorf("YUFU_LOG_FORMAT: %w", err)
	}
	return log, nil
}

// logLevelFileFlag says where the log level is that may change while the service runs.
type logLevelFileFlag struct {
	LogLevelFile string `env:"YUFU_LOG_LEVEL_FILE" group:"Operation:" placeholder:"FILE" help:"File with the log level, instead of YUFU_LOG_LEVEL. It is read again on SIGHUP."`
}

// level returns the level of the file or, without one, of the name.
func (f logLevelFileFlag) level(name string) (slog.Level, error) {
	setting := "YUFU_LOG_LEVEL"
	if f.LogLevelFile != "" {
		setting = "YUFU_LOG_LEVEL_FILE"
		b, err := os.ReadFile(f.LogLevelFile)
		if err != nil {
			return 0, fmt.Errorf("%s: %w", setting, err)
		}
		name = strings.TrimSpace(string(b))
	}
	level, err := telemetry.ParseLevel(name)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", setting, err)
	}
	return level, nil
}

// shutdownFlag bounds the drain.
type shutdownFlag struct {
	ShutdownTimeout time.Duration `env:"YUFU_SHUTDOWN_TIMEOUT" default:"15s" group:"Operation:" placeholder:"DURATION" help:"After SIGTERM, how long requests in flight may still take."`
}

func (f shutdownFlag) check() error {
	if f.ShutdownTimeout <= 0 {
		return fmt.Errorf("YUFU_SHUTDOWN_TIMEOUT: it is longer than nothing, not %s", f.ShutdownTimeout)
	}
	return nil
}

// delayFlag is how long a replica serves after it was told to end.
type delayFlag struct {
	ShutdownDelay time.Duration `env:"YUFU_SHUTDOWN_DELAY" default:"5s" group:"Operation:" placeholder:"DURATION" help:"After SIGTERM, how long to serve while /readyz answers 503, before the drain. Choose longer than load balancers take to notice."`
}

func (f delayFlag) check() error {
	if f.ShutdownDelay < 0 || f.ShutdownDelay > time.Hour {
		return fmt.Errorf("YUFU_SHUTDOWN_DELAY must be between 0 and 1h, got %s", f.ShutdownDelay)
	}
	return nil
}

// platformFlags point platforms elsewhere.
type platformFlags struct {
	UnsafeWechatURL string `name:"unsafe-wechat-url" env:"YUFU_UNSAFE_WECHAT_URL" group:"Unsafe:" placeholder:"URL" help:"Call this address instead of WeChat's. Whoever answers there sees every AppSecret and decides who logs in. For tests against a simulator."`
}

func warnTo(log *slog.Logger) func(string) { return func(s string) { log.Warn(s) } }

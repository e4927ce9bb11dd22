package main

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/yufu-auth/yufu/cmd/yufu/internal/setting"
	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/seal"
	"github.com/yufu-auth/yufu/pkg/session"
	"github.com/yufu-auth/yufu/pkg/telemetry"
)

// listenFlags are the addresses of the two listeners.
type listenFlags struct {
	Listen      string `env:"YUFU_LISTEN" default:"127.0.0.1:8080" group:"Listeners:" placeholder:"HOST:PORT" help:"Address of the public API."`
	AdminListen string `env:"YUFU_ADMIN_LISTEN" default:"127.0.0.1:8081" group:"Listeners:" placeholder:"HOST:PORT" help:"Address of health checks and metrics. Keep it private."`
}

// lifetimeFlags are how long things live.
type lifetimeFlags struct {
	AccessTokenTTL time.Duration `name:"access-token-ttl" env:"YUFU_ACCESS_TOKEN_TTL" default:"10m" group:"Lifetimes:" placeholder:"DURATION" help:"Lifetime of an access token, at most 1h."`
	RefreshGrace   time.Duration `env:"YUFU_REFRESH_GRACE" default:"60s" group:"Lifetimes:" placeholder:"DURATION" help:"How long after a refresh the refresh token that was used still yields the same successor, at most 10m. Later, whoever sends it again ends the session."`
	SessionIdleTTL time.Duration `name:"session-idle-ttl" env:"YUFU_SESSION_IDLE_TTL" default:"720h" group:"Lifetimes:" placeholder:"DURATION" help:"A session that is not refreshed for this long expires."`
	SessionMaxTTL  time.Duration `name:"session-max-ttl" env:"YUFU_SESSION_MAX_TTL" default:"4320h" group:"Lifetimes:" placeholder:"DURATION" help:"A session expires after this long, however often it is refreshed."`
}

func (f lifetimeFlags) lifetimes() session.Lifetimes {
	return session.Lifetimes{Grace: f.RefreshGrace, Idle: f.SessionIdleTTL, Max: f.SessionMaxTTL}
}

func (f lifetimeFlags) check() error {
	if f.AccessTokenTTL < time.Second || f.AccessTokenTTL > auth.MaxAccessTokenTTL {
		return fmt.Errorf("YUFU_ACCESS_TOKEN_TTL: an access token lives 1s to %s, not %s", auth.MaxAccessTokenTTL, f.AccessTokenTTL)
	}
	if err := f.lifetimes().Check(); err != nil {
		return fmt.Errorf("YUFU_REFRESH_GRACE, YUFU_SESSION_IDLE_TTL, YUFU_SESSION_MAX_TTL: %w", err)
	}
	return nil
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
		return nil, errors.New(name + " is missing: make a key with: openssl rand -base64 32 > master.key && chmod 600 master.key")
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

func (f logFlags) logger(std streams, format string) (*slog.Logger, error) {
	if f.LogFormat != "" {
		format = strings.ToLower(f.LogFormat)
	}
	log, err := telemetry.NewLogger(std.err, format, f.LogLevel)
	if err != nil {
		return nil, fmt.Errorf("YUFU_LOG_LEVEL, YUFU_LOG_FORMAT: %w", err)
	}
	return log, nil
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

// platformFlags point platforms elsewhere.
type platformFlags struct {
	UnsafeWechatURL string `name:"unsafe-wechat-url" env:"YUFU_UNSAFE_WECHAT_URL" group:"Unsafe:" placeholder:"URL" help:"Call this address instead of WeChat's. Whoever answers there sees every AppSecret and decides who logs in. For tests against a simulator."`
}

func warnTo(log *slog.Logger) func(string) { return func(s string) { log.Warn(s) } }

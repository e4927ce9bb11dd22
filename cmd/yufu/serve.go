package main

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"

	"github.com/yufu-auth/yufu/cmd/yufu/internal/httpd"
	"github.com/yufu-auth/yufu/cmd/yufu/internal/setting"
	"github.com/yufu-auth/yufu/db/postgres"
	"github.com/yufu-auth/yufu/pkg/binding/webhook"
	"github.com/yufu-auth/yufu/pkg/seal"
)

type serveCmd struct {
	setting.PublicAddress
	setting.Storage
	setting.MasterKey
	setting.Listeners
	setting.Proxies
	setting.Lifetimes
	setting.Rotation
	setting.Limits
	setting.ForwardAuth
	setting.Migration
	setting.Shutdown
	setting.Delay
	setting.Log
	setting.LevelFile
	setting.UnsafePlatforms
	setting.Webhooks
}

// Help is shown below the usage line of yufu serve --help.
func (serveCmd) Help() string {
	return `Three settings are required: YUFU_ISSUER, YUFU_DATABASE_URL and YUFU_MASTER_KEY_FILE. Every setting is a flag and an environment variable; the flag wins. Write a duration as 90s, 15m or 720h.

Replicas share only the database and these three settings, and may start and stop at any time. On SIGTERM the service goes on serving for YUFU_SHUTDOWN_DELAY while /readyz answers 503, then drains. On SIGHUP it reads the files of YUFU_MASTER_KEY_FILE, YUFU_DATABASE_URL_FILE and YUFU_LOG_LEVEL_FILE again.`
}

// serveSettings are the settings of yufu serve that have to be parsed.
type serveSettings struct {
	level                 *slog.LevelVar
	log                   *slog.Logger
	db                    setting.Database
	sealer                *seal.Ring
	proxies, adminProxies []netip.Prefix
	webhooks              *webhook.Client
}

// parse parses the settings. The error names every one that is missing or wrong, because a
// first start needs three.
func (c *serveCmd) parse(std streams) (s serveSettings, err error) {
	s.level = new(slog.LevelVar)
	levelErr := c.rereadLevel(s.level)
	var logErr, dbErr, keyErr, proxyErr, webhookErr error
	if s.log, logErr = c.Logger(std.err, "json", s.level); logErr != nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	s.db, dbErr = c.Storage.Parse(std.in, warnTo(s.log))
	s.sealer, keyErr = c.Ring(std.in, warnTo(s.log))
	s.proxies, s.adminProxies, proxyErr = c.Networks()
	s.webhooks, webhookErr = c.Client(false)
	return s, errors.Join(c.PublicAddress.Check(), dbErr, keyErr, proxyErr, webhookErr, c.ForwardAuth.Check(), levelErr, logErr)
}

// checkSettings implements [settingsChecker].
func (c *serveCmd) checkSettings(std streams) error {
	_, err := c.parse(std)
	return err
}

// Run serves until SIGTERM.
func (c *serveCmd) Run(ctx context.Context, std streams) error {
	parsed, err := c.parse(std)
	if err := errors.Join(err, c.Lifetimes.Check(), c.Rotation.Check()); err != nil {
		return wrongUsage(err)
	}
	log := parsed.log
	if c.UnsafeWechatURL != "" {
		log.Warn("YUFU_UNSAFE_WECHAT_URL set, calls to WeChat and AppSecrets go to this URL", "url", c.UnsafeWechatURL)
	}
	public, err := httpd.Listen(ctx, "YUFU_LISTEN", c.Listen)
	if err != nil {
		return err
	}
	defer public.Close() //nolint:errcheck // the server closes it first, if it ran
	admin, err := httpd.Listen(ctx, "YUFU_ADMIN_LISTEN", c.AdminListen)
	if err != nil {
		return err
	}
	defer admin.Close() //nolint:errcheck // as above
	// Connections that arrive from here on wait until the service is up.
	var migrate *seal.Ring
	if c.Migrate {
		migrate = parsed.sealer
	}
	s, err := openStoreToServe(ctx, parsed.db, migrate)
	if err != nil {
		return err
	}
	defer s.Close()
	return serve(ctx, parts{
		log:       log,
		store:     s,
		sealer:    parsed.sealer,
		masterKey: setting.MasterKeyName,
		webhooks:  parsed.webhooks,
		issuer:    c.Issuer,
		lifetimes: c.Lifetimes,
		rotation:  c.Keys(c.SessionMaxTTL),
		limits:    c.Limits,

		verifyCookie: c.VerifyCookie,

		proxies: parsed.proxies, adminProxies: parsed.adminProxies,
		wechatURL: c.UnsafeWechatURL,
		public:    public,
		admin:     admin,
		delay:     c.ShutdownDelay,
		grace:     c.ShutdownTimeout,
		rereads:   c.rereads(std, log, s, parsed.sealer, parsed.level),
	})
}

// rereads returns the files that a serving process reads again on SIGHUP.
func (c *serveCmd) rereads(std streams, log *slog.Logger, s store, sealer *seal.Ring, level *slog.LevelVar) []reread {
	all := []reread{{setting.MasterKeyName, func(ctx context.Context) error {
		ring, err := c.Ring(std.in, warnTo(log))
		if err != nil {
			return err
		}
		if err := checkOpensAll(ctx, s, ring); err != nil {
			return err
		}
		sealer.Replace(ring)
		return nil
	}}}
	if c.DatabaseURLFile != "" {
		all = append(all, reread{"YUFU_DATABASE_URL_FILE", func(ctx context.Context) error {
			db, err := c.Storage.Parse(std.in, warnTo(log))
			if err != nil {
				return err
			}
			pg, ok := s.(*postgres.Store)
			if !ok || db.PostgresDSN == "" {
				return errors.New("cannot change to another kind of database or another SQLite file without a restart")
			}
			ctx, cancel := context.WithTimeout(ctx, openTimeout)
			defer cancel()
			return pg.Reconnect(ctx, db.PostgresDSN)
		}})
	}
	if c.LogLevelFile != "" {
		all = append(all, reread{"YUFU_LOG_LEVEL_FILE", func(context.Context) error { return c.rereadLevel(level) }})
	}
	return all
}

func (c *serveCmd) rereadLevel(level *slog.LevelVar) error {
	l, err := c.LevelFile.Read(c.Log)
	if err == nil {
		level.Set(l)
	}
	return err
}

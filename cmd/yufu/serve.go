package main

import (
	"context"
	"errors"
	"log/slog"

	"github.com/yufu-auth/yufu/cmd/yufu/internal/httpd"
	"github.com/yufu-auth/yufu/cmd/yufu/internal/setting"
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

// Run serves until SIGTERM.
func (c *serveCmd) Run(ctx context.Context, std streams) error {
	var level slog.LevelVar
	if err := c.rereadLevel(&level); err != nil {
		return wrongUsage(err)
	}
	log, err := c.Logger(std.err, "json", &level)
	if err != nil {
		return wrongUsage(err)
	}
	db, dbErr := c.Storage.Parse(std.in, warnTo(log))
	sealer, keyErr := c.Ring(std.in, warnTo(log))
	proxies, adminProxies, proxyErr := c.Networks()
	hooks, hookErr := c.Client(false)
	// Report all that is wrong at once: a first start needs three settings.
	if err := errors.Join(c.PublicAddress.Check(), dbErr, keyErr, proxyErr, hookErr, c.Lifetimes.Check(), c.Rotation.Check(), c.ForwardAuth.Check()); err != nil {
		return wrongUsage(err)
	}
	if c.UnsafeWechatURL != "" {
		log.Warn("YUFU_UNSAFE_WECHAT_URL is set: calls to WeChat, with AppSecrets, go to another address", "url", c.UnsafeWechatURL)
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
	s, err := openServing(ctx, db, c.Migrate)
	if err != nil {
		return err
	}
	defer s.Close()
	keys, facts, err := openSealed(ctx, s, sealer, setting.MasterKeyName)
	if err != nil {
		return err
	}
	return serve(ctx, parts{
		log:       log,
		store:     s,
		sealer:    sealer,
		keys:      keys,
		facts:     facts,
		webhooks:  hooks,
		issuer:    c.Issuer,
		lifetimes: c.Lifetimes,
		rotation:  c.Keys(c.SessionMaxTTL),
		limits:    c.Limits,

		verifyCookie: c.VerifyCookie,

		proxies: proxies, adminProxies: adminProxies,
		wechatURL: c.UnsafeWechatURL,
		public:    public,
		admin:     admin,
		delay:     c.ShutdownDelay,
		grace:     c.ShutdownTimeout,
		rereads:   c.rereads(std, log, s, sealer, &level),
	})
}

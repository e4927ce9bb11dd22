package main

import (
	"context"
	"errors"
	"log/slog"

	"github.com/yufu-auth/yufu/cmd/yufu/internal/httpd"
	"github.com/yufu-auth/yufu/cmd/yufu/internal/setting"
)

type serveCmd struct {
	Issuer string `env:"YUFU_ISSUER" group:"Listeners:" placeholder:"URL" help:"Address by which the public reaches this service, for example https://auth.example.com: https, without a path. It stands in every token."`
	databaseFlags
	masterKeyFlag
	listenFlags
	proxyFlags
	lifetimeFlags
	rotationFlags
	limitFlags
	gateFlags
	Migrate bool `env:"YUFU_MIGRATE" group:"Database and keys:" help:"Bring the database schema up to date first; several replicas may do so at once."`
	shutdownFlag
	delayFlag
	logFlags
	logLevelFileFlag
	platformFlags
	webhookFlags
}

// Help is shown below the usage line of yufu serve --help.
func (serveCmd) Help() string {
	return `Three settings are required: YUFU_ISSUER, YUFU_DATABASE_URL and YUFU_MASTER_KEY_FILE. Every setting is a flag and an environment variable; the flag wins. A duration is written as 90s, 15m or 720h.

Replicas share nothing but the database and these three settings, and may start and stop at any time. SIGTERM has it leave: it serves for YUFU_SHUTDOWN_DELAY while /readyz says no, then drains. SIGHUP reads the files of YUFU_MASTER_KEY_FILE, YUFU_DATABASE_URL_FILE and YUFU_LOG_LEVEL_FILE again.`
}

// Run serves until SIGTERM.
func (c *serveCmd) Run(ctx context.Context, std streams) error {
	var level slog.LevelVar
	if err := c.rereadLevel(&level); err != nil {
		return wrongUsage(err)
	}
	log, err := c.loggerAt(std, "json", &level)
	if err != nil {
		return wrongUsage(err)
	}
	db, dbErr := c.database(std, log)
	sealer, keyErr := c.ring(std, log)
	proxies, adminProxies, proxyErr := c.proxies()
	hooks, hookErr := c.client(false)
	// All that is wrong at once: a first start has three settings to make.
	if err := errors.Join(setting.CheckIssuer("YUFU_ISSUER", c.Issuer), dbErr, keyErr, proxyErr, hookErr, c.lifetimeFlags.check(), c.policy(c.SessionMaxTTL).Check(), c.limitFlags.check(), c.gateFlags.check(), c.shutdownFlag.check(), c.delayFlag.check()); err != nil {
		return wrongUsage(err)
	}
	if c.UnsafeWechatURL != "" {
		log.Warn("YUFU_UNSAFE_WECHAT_URL is set: platform calls, AppSecrets among them, go to another address than WeChat's", "url", c.UnsafeWechatURL)
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
	keys, facts, err := openSealed(ctx, s, sealer, masterKeySetting)
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
		lifetimes: c.lifetimeFlags,
		rotation:  c.policy(c.SessionMaxTTL),
		limits:    c.limitFlags,

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

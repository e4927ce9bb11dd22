package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/yufu-auth/yufu/cmd/yufu/internal/datadir"
	"github.com/yufu-auth/yufu/cmd/yufu/internal/httpd"
	"github.com/yufu-auth/yufu/cmd/yufu/internal/setting"
	"github.com/yufu-auth/yufu/pkg/app"
	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/platform/wechatsim"
	"github.com/yufu-auth/yufu/pkg/seal"
	"github.com/yufu-auth/yufu/pkg/servicekey"
)

// The app that yufu dev registers for its simulated WeChat. The secret protects nothing: only
// the simulator on this machine accepts it.
const (
	devAppID  = "wxdevelopment0001"
	devSecret = "simulated-app-secret" //nolint:gosec // it protects nothing, see above
)

type devCmd struct {
	setting.Folder
	setting.Simulator
	setting.Listeners
	App        string `placeholder:"APPID" help:"Appid to use with real WeChat instead of the simulator. Needs --secret-file."`
	SecretFile string `placeholder:"FILE" help:"File with the AppSecret of --app, or - for standard input."`
	setting.Lifetimes
	setting.Rotation
	setting.Limits
	setting.ForwardAuth
	setting.Shutdown
	setting.Log
}

// Help is shown below the usage line of yufu dev --help.
func (devCmd) Help() string {
	return "This command needs no settings. It makes its own folder, keys and database, and prints commands to paste. It listens only on loopback."
}

// parse parses the settings and reads the AppSecret, which is [devSecret] without a file. The
// error names every one that is wrong.
func (c *devCmd) parse(std streams) (log *slog.Logger, secret *auth.Secret, err error) {
	log, logErr := textLogger(c.Log, std)
	secret = new(auth.Secret)
	*secret = devSecret
	var appErr, secretErr error
	switch {
	case (c.App == "") != (c.SecretFile == ""):
		appErr = errors.New("--app and --secret-file must be given together: calls to WeChat need the AppSecret")
	case c.App != "":
		if !auth.ValidAppID(c.App) {
			appErr = fmt.Errorf("--app must be 1 to 64 letters and digits, got %q", c.App)
		}
		secret, secretErr = readAppSecret("--secret-file", c.SecretFile, std, log)
	}
	return log, secret, errors.Join(
		appErr,
		secretErr,
		setting.CheckLoopback("YUFU_LISTEN", c.Listen),
		setting.CheckLoopback("YUFU_ADMIN_LISTEN", c.AdminListen),
		setting.CheckLoopback("YUFU_SIM_LISTEN", c.SimListen),
		c.ForwardAuth.Check(),
		logErr,
	)
}

// checkSettings implements [settingsChecker].
func (c *devCmd) checkSettings(std streams) error {
	_, _, err := c.parse(std)
	return err
}

// Run serves until SIGTERM or Ctrl-C.
func (c *devCmd) Run(ctx context.Context, std streams) error {
	log, secret, err := c.parse(std)
	if err := errors.Join(err, c.Lifetimes.Check(), c.Rotation.Check()); err != nil {
		return wrongUsage(err)
	}
	appID := cmp.Or(c.App, devAppID)
	dir, err := datadir.Open("YUFU_DATA_DIR", c.DataDir)
	if err != nil {
		return wrongUsage(err)
	}
	masterKey, err := dir.ReadOrCreate("master.key", seal.GenerateFile)
	if err != nil {
		return setting.Errorf("YUFU_DATA_DIR", "names a folder in which the master key cannot be kept: %w", err)
	}
	sealer, err := seal.ParseRing(masterKey)
	if err != nil {
		return fmt.Errorf("%s: %w", dir.Path("master.key"), err)
	}

	p := parts{guard: loopbackOnly, log: log, sealer: sealer, masterKey: dir.Path("master.key"), lifetimes: c.Lifetimes, rotation: c.Keys(c.SessionMaxTTL), limits: c.Limits, verifyCookie: c.VerifyCookie, grace: c.ShutdownTimeout}
	if p.public, err = httpd.Listen(ctx, "YUFU_LISTEN", c.Listen); err != nil {
		return err
	}
	defer p.public.Close() //nolint:errcheck // the server closes it first, if it ran
	if p.admin, err = httpd.Listen(ctx, "YUFU_ADMIN_LISTEN", c.AdminListen); err != nil {
		return err
	}
	defer p.admin.Close() //nolint:errcheck // as above
	p.issuer = "http://" + p.public.Addr().String()
	t := tour{Public: p.issuer, Admin: "http://" + p.admin.Addr().String(), App: appID, Program: os.Args[0], DataDir: c.DataDir, AdminKey: dir.Path(adminKeyFile)}
	webhookURL := ""
	if c.App == "" {
		sim, err := httpd.Listen(ctx, "YUFU_SIM_LISTEN", c.SimListen)
		if err != nil {
			return err
		}
		defer sim.Close() //nolint:errcheck // as above
		p.wechatURL = "http://" + sim.Addr().String()
		t.Sim = p.wechatURL
		webhookURL = p.wechatURL + devWebhookPath
		p.extra = []httpd.Endpoint{simulatorEndpoint(sim, withBusiness(wechatsim.New(wechatsim.Config{}).Handler()))}
	}
	if p.webhooks, err = (setting.Webhooks{}).Client(true); err != nil {
		return err
	}
	s, err := openStoreToServe(ctx, setting.Database{Setting: "YUFU_DATA_DIR", SQLitePath: dir.Path("yufu.db")}, sealer)
	if err != nil {
		return err
	}
	defer s.Close()
	p.store = s
	keys, err := openSealed(ctx, s, sealer, p.masterKey)
	if err != nil {
		return err
	}
	at, err := databaseNow(ctx, s)
	if err != nil {
		return err
	}
	apps := app.NewService(app.Config{Store: s, Sealer: sealer, Clock: s.Now})
	if err := ensureApp(ctx, apps, appID, secret); err != nil {
		return err
	}
	if err := ensureFixtures(ctx, s, apps, keys.facts, appID, webhookURL, at); err != nil {
		return err
	}
	if err := ensureAdminKey(ctx, s, dir, at); err != nil {
		return err
	}
	if err := t.print(std.out); err != nil {
		return err
	}
	return serve(ctx, p)
}

// ensureApp registers the app, or gives it the secret if it is registered already.
func ensureApp(ctx context.Context, apps *app.Service, appID string, secret *auth.Secret) error {
	form := app.Form{Secret: secret}
	_, err := apps.Register(ctx, app.Registration{ID: appID, Platform: auth.PlatformWeChat, Form: form}, devCaller)
	if errors.Is(err, auth.AppExists) {
		_, err = apps.Update(ctx, appID, form, devCaller)
	}
	return err
}

// adminKeyFile is where yufu dev keeps a service key for the admin API.
const adminKeyFile = "admin.key"

// ensureAdminKey makes a new admin key in the folder, unless the database accepts the key
// that is there.
func ensureAdminKey(ctx context.Context, s store, dir datadir.Dir, at time.Time) error {
	good, err := isAdminKey(ctx, s, dir, at)
	if err != nil || good {
		return err
	}
	// A key can only create keys with its own scopes, so this one has all scopes.
	draft, err := servicekey.NewDraft("yufu dev", devScopes, nil)
	if err != nil {
		return err
	}
	_, p, err := servicekey.Create(ctx, s, s, draft, auth.AuditEvent{At: at, Actor: auth.ActorService, Reason: "yufu dev"})
	if err != nil {
		return err
	}
	if err := dir.Replace(adminKeyFile, []byte(p.Key().Reveal()+"\n")); err != nil {
		return setting.Errorf("YUFU_DATA_DIR", "names a folder in which the admin key cannot be kept: %w", err)
	}
	return nil
}

var devScopes = []string{
	string(servicekey.ScopeService), string(servicekey.ScopeOpenID), string(servicekey.ScopeDecrypt), string(servicekey.ScopeAdmin),
}

// isAdminKey reports whether the key in the folder is an unrestricted key with all scopes of
// yufu dev.
func isAdminKey(ctx context.Context, s store, dir datadir.Dir, at time.Time) (bool, error) {
	b, err := os.ReadFile(dir.Path(adminKeyFile))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, setting.Errorf("YUFU_DATA_DIR", "names a folder whose admin key cannot be read: %w", err)
	}
	keys := servicekey.NewAuthenticator(s, 0, time.Now, func() time.Time { return at })
	defer keys.Close()
	k, err := keys.Authenticate(ctx, auth.Secret(strings.TrimSpace(string(b))))
	if errors.Is(err, auth.ServiceKeyInvalid) {
		return false, nil
	}
	lacks := func(scope string) bool { return !k.Has(servicekey.Scope(scope)) }
	return err == nil && !slices.ContainsFunc(devScopes, lacks) && !k.Restricted(), err
}

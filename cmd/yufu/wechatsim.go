package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"github.com/yufu-auth/yufu/cmd/yufu/internal/httpd"
	"github.com/yufu-auth/yufu/cmd/yufu/internal/setting"
	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/platform/wechatsim"
)

type wechatsimCmd struct {
	setting.Simulator
	App []string `placeholder:"APPID:SECRET" sep:"none" help:"App to accept, with an invented secret. Repeat it for several. Without this flag, any appid with any secret is accepted."`
	setting.Shutdown
	setting.Log
}

// parse parses the settings. The error names every one that is wrong.
func (c *wechatsimCmd) parse(std streams) (*slog.Logger, map[string]string, error) {
	log, logErr := textLogger(c.Log, std)
	apps, appErr := parseApps(c.App)
	return log, apps, errors.Join(setting.CheckLoopback("YUFU_SIM_LISTEN", c.SimListen), appErr, logErr)
}

// checkSettings implements [settingsChecker].
func (c *wechatsimCmd) checkSettings(std streams) error {
	_, _, err := c.parse(std)
	return err
}

// Run simulates WeChat until SIGTERM or Ctrl-C.
func (c *wechatsimCmd) Run(ctx context.Context, std streams) error {
	log, apps, err := c.parse(std)
	if err != nil {
		return wrongUsage(err)
	}
	l, err := httpd.Listen(ctx, "YUFU_SIM_LISTEN", c.SimListen)
	if err != nil {
		return err
	}
	fmt.Fprintf(std.out, "WeChat is simulated at http://%s. Open that address for its documentation.\n", l.Addr())
	return httpd.Serve(ctx, log, httpd.Stop{Grace: c.ShutdownTimeout}, simulatorEndpoint(l, wechatsim.New(wechatsim.Config{Apps: apps}).Handler()))
}

// parseApps parses APPID:SECRET pairs. Errors contain no secret.
func parseApps(pairs []string) (map[string]string, error) {
	apps := make(map[string]string, len(pairs))
	for i, p := range pairs {
		id, secret, ok := strings.Cut(p, ":")
		if !ok || secret == "" || !auth.ValidAppID(id) {
			return nil, fmt.Errorf("--app must be APPID:SECRET; value number %d is not", i+1)
		}
		apps[id] = secret
	}
	return apps, nil
}

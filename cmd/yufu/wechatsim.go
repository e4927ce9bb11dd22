package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/yufu-auth/yufu/cmd/yufu/internal/httpd"
	"github.com/yufu-auth/yufu/cmd/yufu/internal/setting"
	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/platform/wechatsim"
)

type wechatsimCmd struct {
	SimListen string   `env:"YUFU_SIM_LISTEN" default:"127.0.0.1:8082" placeholder:"HOST:PORT" help:"Address to listen on; loopback only."`
	App       []string `placeholder:"APPID:SECRET" sep:"none" help:"Accept only this app with this (invented) secret; may be repeated. Without it, any appid with any secret is accepted."`
	shutdownFlag
	logFlags
}

// Run simulates WeChat until SIGTERM or Ctrl-C.
func (c *wechatsimCmd) Run(ctx context.Context, std streams) error {
	log, err := c.logger(std)
	if err != nil {
		return wrongUsage(err)
	}
	if err := errors.Join(setting.CheckLoopback("YUFU_SIM_LISTEN", c.SimListen), c.shutdownFlag.check()); err != nil {
		return wrongUsage(err)
	}
	apps, err := parseApps(c.App)
	if err != nil {
		return wrongUsage(err)
	}
	l, err := httpd.Listen(ctx, "YUFU_SIM_LISTEN", c.SimListen)
	if err != nil {
		return err
	}
	fmt.Fprintf(std.out, "WeChat is simulated at http://%s; what it can do is at that address.\n", l.Addr())
	return httpd.Serve(ctx, log, httpd.Stop{Grace: c.ShutdownTimeout}, simulatorEndpoint(l, wechatsim.New(wechatsim.Config{Apps: apps}).Handler()))
}

// parseApps reads APPID:SECRET pairs. Errors show no secret.
func parseApps(pairs []string) (map[string]string, error) {
	apps := make(map[string]string, len(pairs))
	for i, p := range pairs {
		id, secret, ok := strings.Cut(p, ":")
		if !ok || secret == "" || !auth.ValidAppID(id) {
			return nil, fmt.Errorf("--app number %d is not APPID:SECRET", i+1)
		}
		apps[id] = secret
	}
	return apps, nil
}

package main

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/yufu-auth/yufu/cmd/yufu/internal/setting"
	"github.com/yufu-auth/yufu/pkg/adminclient"
)

// adminFlags are embedded by commands that use the admin API.
type adminFlags struct {
	setting.AdminAPI
}

// adminAPITimeout bounds a call to the admin API. It is longer than the timeout of the
// service.
const adminAPITimeout = 30 * time.Second

// parse parses the settings. The error names every one that is missing or wrong.
func (f adminFlags) parse(std streams) (u *url.URL, key string, err error) {
	u, err = url.Parse(f.AdminURL)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.User != nil {
		err = setting.Errorf("YUFU_ADMIN_URL", "must be an address such as http://127.0.0.1:8081, without a user")
	}
	if f.AdminKeyFile == "" {
		return u, "", errors.Join(err, setting.Errorf("YUFU_ADMIN_KEY_FILE", "is missing: set it to a file with a service key for the admin API (yufu dev keeps one in .yufu/admin.key); make one with: yufu service-key create --name NAME --scope admin > admin.key && chmod 600 admin.key"))
	}
	b, keyErr := setting.ReadSecretFile("YUFU_ADMIN_KEY_FILE", f.AdminKeyFile, std.in, noteTo(std))
	return u, strings.TrimSpace(string(b)), errors.Join(err, keyErr)
}

// checkSettings implements [settingsChecker].
func (f adminFlags) checkSettings(std streams) error {
	_, _, err := f.parse(std)
	return err
}

// client returns the client of the admin API.
func (f adminFlags) client(std streams) (*adminclient.Client, error) {
	u, key, err := f.parse(std)
	if err != nil {
		return nil, wrongUsage(err)
	}
	if u.Scheme == "http" && setting.CheckLoopback("YUFU_ADMIN_URL", net.JoinHostPort(u.Hostname(), "0")) != nil {
		noteTo(std)("YUFU_ADMIN_URL is plain http: others on the network can read the service key and the data of persons")
	}
	client, err := adminclient.New(adminclient.Config{
		URL: f.AdminURL, ServiceKey: key, HTTPClient: &http.Client{Timeout: adminAPITimeout},
	})
	if err != nil {
		return nil, wrongUsage(fmt.Errorf("YUFU_ADMIN_URL or YUFU_ADMIN_KEY_FILE: %w", err))
	}
	return client, nil
}

// errNotAdmin reports that another server is at the address, for example the public
// listener.
var errNotAdmin = setting.Errorf("YUFU_ADMIN_URL", "names an address where another server answers; set it to the address of the admin API (YUFU_ADMIN_LISTEN)")

// explain returns the error of a call, in terms of the settings if another server or none
// answered.
func (f adminFlags) explain(err error) error {
	var e *adminclient.Error
	switch {
	case err == nil:
		return nil
	case !errors.As(err, &e):
		return setting.Errorf("YUFU_ADMIN_URL", "names an address that does not answer: %s; check that yufu serve or yufu dev is running there: %w", f.AdminURL, err)
	case e.StatusCode == http.StatusNotFound || e.StatusCode < http.StatusMultipleChoices:
		return errNotAdmin
	}
	return err
}

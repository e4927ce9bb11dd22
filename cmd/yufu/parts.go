package main

import (
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"time"

	"github.com/yufu-auth/yufu/cmd/yufu/internal/httpd"
	"github.com/yufu-auth/yufu/cmd/yufu/internal/setting"
	"github.com/yufu-auth/yufu/db"
	"github.com/yufu-auth/yufu/pkg/binding/webhook"
	"github.com/yufu-auth/yufu/pkg/keyring"
	"github.com/yufu-auth/yufu/pkg/seal"
)

// maxAdminConnections bounds the connections to the admin listener, which serves admins,
// probes and one or two collectors of metrics. The revocation feed, with its thousands of
// subscribers, is on the public listener.
const maxAdminConnections = 1000

// parts are the parts from which the service is assembled.
type parts struct {
	log    *slog.Logger
	store  db.Store
	sealer *seal.Ring
	// masterKey names the setting or file of the sealer's keys, for errors.
	masterKey string
	issuer    string
	lifetimes setting.Lifetimes
	rotation  keyring.Policy
	limits    setting.Limits
	// verifyCookie names the cookie from which forward-auth may take a token.
	verifyCookie string
	// proxies are trusted to name a client's address.
	proxies, adminProxies []netip.Prefix
	// wechatURL replaces the address of WeChat, unless it is empty.
	wechatURL     string
	public, admin net.Listener
	// delay is the time for which the service serves after SIGTERM, and grace the maximum
	// time of the drain after that.
	delay, grace time.Duration
	// rereads are the files that are read again on SIGHUP.
	rereads []reread
	// webhooks calls the back ends of the apps.
	webhooks *webhook.Client
	// guard wraps the handlers of both listeners, unless it is nil.
	guard func(http.Handler) http.Handler
	// extra endpoints start and end with the service: the simulator of yufu dev.
	extra []httpd.Endpoint
}

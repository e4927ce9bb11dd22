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

// maxAdminConnections bounds the connections to the admin listener, where there
// are admins, probes and one or two collectors of metrics; the revocation feed,
// with its thousands of subscribers, is on the public one.
const maxAdminConnections = 1000

// parts is what the service is assembled from.
type parts struct {
	log    *slog.Logger
	store  db.Store
	sealer *seal.Ring
	// masterKey names where the sealer's keys come from.
	masterKey string
	issuer    string
	lifetimes setting.Lifetimes
	rotation  keyring.Policy
	limits    setting.Limits
	// verifyCookie names the cookie that forward-auth may take a token from.
	verifyCookie string
	// proxies are believed about a client's address.
	proxies, adminProxies []netip.Prefix
	// wechatURL is empty for WeChat itself.
	wechatURL     string
	public, admin net.Listener
	// delay is how long it serves after SIGTERM, and grace how long it drains.
	delay, grace time.Duration
	// rereads are the files that are read again on SIGHUP.
	rereads []reread
	// webhooks ask the apps' own back ends.
	webhooks *webhook.Client
	// guard, if there is one, stands before both listeners.
	guard func(http.Handler) http.Handler
	// extra endpoints live and end with the service: the simulator of yufu dev.
	extra []httpd.Endpoint
}

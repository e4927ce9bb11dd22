package e2e

import (
	"cmp"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// The names in the examples of deploy/.
const (
	authHost = "auth.example.com"
	apiHost  = "api.example.com"
)

// proxy is a proxy program that runs with a file of deploy/ in front of the service and
// a back end. It listens on a Unix socket, so that no port must be free.
type proxy struct {
	*process
	dial      func(ctx context.Context, network, addr string) (net.Conn, error)
	protocols []string // by their ALPN names
	client    *http.Client
}

// sites are the addresses behind a proxy, as host:port. The service may have a second
// replica. The admin port is needed with the public endpoints of the service.
type sites struct{ auth, api, second, adminPort string }

// replica returns the replacements of example for a second replica.
func (s sites) replica(commented string) []string {
	if s.second == "" {
		return nil
	}
	return []string{"# " + commented, strings.ReplaceAll(commented, "10.0.0.2:8080", s.second)}
}

// program finds a program (a proxy, or php) in the folder of .ci/deps or of the system.
// Debian's PHP has its version in its name.
func program(t *testing.T, name string) (path string, env []string) {
	t.Helper()
	deps, err := filepath.Abs("../../../.deps/proxies")
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"usr/sbin", "usr/bin"} {
		for _, pattern := range []string{name, name + "[0-9]*"} {
			found, err := filepath.Glob(filepath.Join(deps, dir, pattern))
			if err != nil {
				t.Fatal(err)
			}
			if len(found) == 0 || !isFile(found[0]) {
				continue
			}
			libraries, err := filepath.Glob(filepath.Join(deps, "usr/lib/*-linux-gnu*"))
			if err != nil {
				t.Fatal(err)
			}
			return found[0], []string{"LD_LIBRARY_PATH=" + strings.Join(libraries, ":")}
		}
	}
	if path := "/usr/sbin/" + name; isFile(path) {
		return path, nil
	}
	path, err = exec.LookPath(name)
	if err != nil {
		t.Fatalf("%s is missing; to get it: sudo make deps", name)
	}
	return path, nil
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

// example returns a file of deploy/ with the replacements that its users make. Each
// replaced text must exist.
func example(t *testing.T, name string, replace ...string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("../../../deploy", name))
	if err != nil {
		t.Fatal(err)
	}
	text := string(b)
	for i := 0; i < len(replace); i += 2 {
		if !strings.Contains(text, replace[i]) {
			t.Fatalf("%s does not contain %q", name, replace[i])
		}
		text = strings.ReplaceAll(text, replace[i], replace[i+1])
	}
	return text
}

// shortDir returns a new folder whose path leaves room for the name of a socket.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "yufu-p") //nolint:usetesting // the test's name would be in the path
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func write(t *testing.T, path, content string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// runProxy starts a program that listens on dir/socket.
func (h *harness) runProxy(name, dir string, env []string, args ...string) *proxy {
	h.t.Helper()
	path, libraries := program(h.t, name)
	p := h.prepare(name, nil, nil)
	p.cmd.Path, p.cmd.Args, p.cmd.Dir = path, append([]string{path}, args...), dir
	p.cmd.Env = append(append(p.cmd.Env, libraries...), env...)
	h.launch(p)
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", filepath.Join(dir, "socket"))
	}
	h.eventually(name+" listens", func() bool {
		select {
		case <-p.exited:
			h.t.Fatalf("%s ended: exit code %d", name, p.code)
		default:
		}
		conn, err := dial(h.t.Context(), "", "")
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	})
	transport := &http.Transport{
		DialContext:        dial,
		DisableCompression: true,
		TLSClientConfig:    &tls.Config{InsecureSkipVerify: true}, // the server belongs to this test
	}
	h.t.Cleanup(transport.CloseIdleConnections)
	return &proxy{p, dial, []string{"http/1.1", "h2"}, &http.Client{
		Transport: transport, Timeout: patience,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// certificate writes a certificate for both names and its key.
func certificate(t *testing.T, dir string) (crt, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "example.com"}, DNSNames: []string{authHost, apiHost},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	crt = write(t, filepath.Join(dir, "tls.crt"), string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	key = write(t, filepath.Join(dir, "tls.key"), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})))
	return crt, key
}

// nginx starts nginx with deploy/nginx/yufu.conf.
func (h *harness) nginx(to sites) *proxy {
	h.t.Helper()
	dir := shortDir(h.t)
	crt, key := certificate(h.t, dir)
	conf := write(h.t, filepath.Join(dir, "yufu.conf"), example(h.t, "nginx/yufu.conf", append(to.replica("server 10.0.0.2:8080"),
		"listen 443 ssl", "listen unix:"+filepath.Join(dir, "socket")+" ssl",
		"/etc/nginx/tls/example.com.crt", crt, "/etc/nginx/tls/example.com.key", key,
		"server 127.0.0.1:8080", "server "+to.auth, "server 127.0.0.1:3000", "server "+to.api)...))
	user := ""
	if os.Getuid() == 0 {
		user = "user root;"
	}
	temp := ""
	for _, what := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
		temp += fmt.Sprintf("%s_temp_path %s;\n", what, filepath.Join(dir, what))
	}
	main := write(h.t, filepath.Join(dir, "nginx.conf"), fmt.Sprintf(`
daemon off;
master_process off;
pid %s/pid;
error_log stderr info;
%s
events {}
http {
log_format upstream '"$request" $status $body_bytes_sent "$http_referer" "$http_user_agent" upstream=$upstream_addr;';
access_log /dev/stdout upstream;
%s
include %s;
}`, dir, user, temp, conf))
	return h.runProxy("nginx", dir, nil, "-p", dir, "-e", "stderr", "-c", main)
}

// caddy starts Caddy with deploy/caddy/Caddyfile.
func (h *harness) caddy(to sites) *proxy {
	h.t.Helper()
	dir := shortDir(h.t)
	crt, key := certificate(h.t, dir)
	shipped := write(h.t, filepath.Join(dir, "shipped"), example(h.t, "caddy/Caddyfile"))
	// The test does not use port 80 and UDP.
	file := write(h.t, filepath.Join(dir, "Caddyfile"), fmt.Sprintf(`
{
	admin unix/%s
	auto_https disable_redirects
	servers {
		protocols h1 h2
	}
}
import %s`, filepath.Join(dir, "admin"), shipped))
	return h.runProxy("caddy", dir, []string{
		"AUTH_ADMIN_PORT=" + cmp.Or(to.adminPort, "8081"), "AUTH_UPSTREAM=" + strings.TrimSpace(to.auth+" "+to.second), "API_UPSTREAM=" + to.api,
		fmt.Sprintf("SITE_OPTIONS=bind unix/%s\ntls %s %s", filepath.Join(dir, "socket"), crt, key),
		"XDG_DATA_HOME=" + dir, "XDG_CONFIG_HOME=" + dir,
	}, "run", "--config", file, "--adapter", "caddyfile")
}

// answered is the answer of a proxy.
type answered struct {
	status int
	header http.Header
	body   string
}

// ask sends a request for a raw path of a host through the proxy.
func (p *proxy) ask(method, host, path, body string, header http.Header) (answered, error) {
	req, err := http.NewRequest(method, "https://"+host+"/", strings.NewReader(body))
	if err != nil {
		return answered{}, err
	}
	req.URL.Opaque = path // unchanged, with all dots
	for name, values := range header {
		req.Header[name] = values
	}
	resp, err := p.client.Do(req)
	if err != nil {
		return answered{}, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return answered{resp.StatusCode, resp.Header, string(b)}, err
}

func (p *proxy) must(t *testing.T, method, host, path, body string, header http.Header) answered {
	t.Helper()
	a, err := p.ask(method, host, path, body, header)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// api sends a request to the back end.
func (p *proxy) api(t *testing.T, token string, more ...string) answered {
	t.Helper()
	header := http.Header{}
	if token != "" {
		header.Set("Authorization", "Bearer "+token)
	}
	for i := 0; i < len(more); i += 2 {
		header[more[i]] = append(header[more[i]], more[i+1]) // in this spelling
	}
	return p.must(t, http.MethodGet, apiHost, "/orders", "", header)
}

// status returns the status of the back end, or 0 without an answer: a connection may
// end with the worker of a proxy that is being replaced.
func (p *proxy) status(token string) int {
	a, err := p.ask(http.MethodGet, apiHost, "/orders", "", http.Header{"Authorization": {"Bearer " + token}})
	if err != nil {
		return 0
	}
	return a.status
}

// guardedAPI is a back end behind a proxy. It records its requests.
type guardedAPI struct {
	addr string

	mu   sync.Mutex
	seen []*http.Request
}

// guardedAPI starts a back end that answers with the request's body.
func (h *harness) guardedAPI() *guardedAPI {
	b := &guardedAPI{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		b.mu.Lock()
		b.seen = append(b.seen, r.Clone(context.Background()))
		b.mu.Unlock()
		fmt.Fprintf(w, "%s %s %s", r.Method, r.RequestURI, body)
	}))
	h.t.Cleanup(server.Close)
	b.addr = server.Listener.Addr().String()
	return b
}

// forget returns the requests since its last call.
func (b *guardedAPI) forget() []*http.Request {
	b.mu.Lock()
	defer b.mu.Unlock()
	seen := b.seen
	b.seen = nil
	return seen
}

// identity returns the headers of a request whose names contain Yufu, in any spelling.
func identity(r *http.Request) map[string][]string {
	found := map[string][]string{}
	for name, values := range r.Header {
		if strings.Contains(strings.ToLower(name), "yufu") {
			found[name] = values
		}
	}
	return found
}

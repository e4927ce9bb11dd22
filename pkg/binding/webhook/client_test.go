package webhook_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"go.uber.org/goleak"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/binding/webhook"
	"github.com/yufu-auth/yufu/pkg/netreason/netreasontest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	appID  = "wxaaaaaaaaaaaaaaaa"
	named  = `{"person":{"external_id":"1001","name":"李雷","phone":"+8613800001001","attributes":{"department":"R&D"}}}`
	refuse = `{"refused":{"user_message":"工号不存在，请联系人事"}}`
)

var (
	identity = uuid.MustParse("0195f2a1-7c3e-7d4b-8a5f-1122334455aa")
	liLei    = webhook.Request{AppID: appID, Identity: identity, Fields: map[string]string{"employee_no": "1001-F1ELD", "name": "李雷-F1ELD"}}
)

// loopback is the network that tests allow.
var loopback = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}

// backEnd is an app's back end: a real HTTPS server.
type backEnd struct {
	*httptest.Server
	secret auth.Secret
	asked  atomic.Int64
}

func serve(t *testing.T, handler http.HandlerFunc) *backEnd {
	t.Helper()
	b := &backEnd{secret: webhook.NewSecret()}
	b.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b.asked.Add(1)
		handler(w, r)
	}))
	b.Config.ErrorLog = log.New(io.Discard, "", 0)
	b.StartTLS()
	t.Cleanup(b.Close)
	return b
}

func answer(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

// trusting returns settings that allow the back end, with a long timeout.
func (b *backEnd) trusting() webhook.Config {
	roots := x509.NewCertPool()
	roots.AddCert(b.Certificate())
	return webhook.Config{AllowNetworks: loopback, RootCAs: roots, Timeout: time.Minute}
}

func (b *backEnd) endpoint(t *testing.T) webhook.Endpoint {
	t.Helper()
	key, err := webhook.ParseKey(b.secret)
	if err != nil {
		t.Fatal(err)
	}
	return webhook.Endpoint{URL: b.URL + "/hook-PA7H?q=QU3RY", Keys: []webhook.Key{key}}
}

func newClient(t *testing.T, cfg webhook.Config) *webhook.Client {
	t.Helper()
	c, err := webhook.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// wantFailure checks that err is webhook_unavailable with this cause, and shows no
// secret. It returns the cause.
func wantFailure(t *testing.T, err error, says string) *webhook.Failure {
	t.Helper()
	var (
		e *auth.Error
		f *webhook.Failure
	)
	if !errors.As(err, &e) || e.Code != auth.WebhookUnavailable || e.RetryAfter <= 0 || !errors.As(err, &f) {
		t.Fatalf("Ask() error = %v, want webhook_unavailable", err)
	}
	if !strings.Contains(f.Error(), says) {
		t.Errorf("cause = %q, want it to contain %q", f, says)
	}
	for _, needle := range []string{"F1ELD", "PA7H", "QU3RY", "whsec_", identity.String(), "ECH0"} {
		if strings.Contains(fmt.Sprintf("%v %+v %#v %+v", err, err, f, *f), needle) {
			t.Errorf("the error shows %q: %v", needle, err)
		}
	}
	if u := (*url.Error)(nil); errors.As(err, &u) {
		t.Errorf("the error chain has a *url.Error: %v", u)
	}
	return f
}

func TestAsk(t *testing.T) {
	t.Parallel()

	t.Run("the reference library verifies the request with the old and the new secret", func(t *testing.T) {
		t.Parallel()
		old := webhook.NewSecret()
		type seen struct {
			method, target string
			header         http.Header
			body           []byte
		}
		requests := make(chan seen, 1)
		b := serve(t, func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			requests <- seen{r.Method, r.RequestURI, r.Header.Clone(), body}
			answer(http.StatusOK, named)(w, r)
		})
		to := b.endpoint(t)
		oldKey, err := webhook.ParseKey(old)
		if err != nil {
			t.Fatal(err)
		}
		to.Keys = append(to.Keys, oldKey)
		at := time.Now().Truncate(time.Second).Add(7 * time.Millisecond)
		cfg := b.trusting()
		cfg.Clock = func() time.Time { return at }
		person, err := newClient(t, cfg).Ask(t.Context(), to, liLei)
		if err != nil {
			t.Fatal(err)
		}
		want := webhook.Person{ExternalID: "1001", Name: "李雷", Phone: "+8613800001001", Attributes: json.RawMessage(`{"department":"R&D"}`)}
		if diff := cmp.Diff(want, person); diff != "" {
			t.Errorf("person (-want +got):\n%s", diff)
		}

		got := <-requests
		if got.method != http.MethodPost || got.target != "/hook-PA7H?q=QU3RY" || got.header.Get("Content-Type") != "application/json" {
			t.Errorf("request %s %s with headers %v, want a POST of JSON to the URL", got.method, got.target, got.header)
		}
		for _, secret := range []auth.Secret{b.secret, old} {
			verifier, err := standardwebhooks.NewWebhook(secret.Reveal())
			if err != nil {
				t.Fatal(err)
			}
			if err := verifier.Verify(got.body, got.header); err != nil {
				t.Errorf("reference library: Verify() error = %v", err)
			}
			if err := verifier.Verify(append(got.body, ' '), got.header); err == nil {
				t.Error("the reference library accepts a changed body")
			}
		}
		var body map[string]any
		if err := json.Unmarshal(got.body, &body); err != nil {
			t.Fatal(err)
		}
		wantBody := map[string]any{
			"type": "binding.requested", "timestamp": at.UTC().Format("2006-01-02T15:04:05.000Z"),
			"data": map[string]any{
				"app": appID, "uuid": identity.String(),
				"fields": map[string]any{"employee_no": "1001-F1ELD", "name": "李雷-F1ELD"},
			},
		}
		if diff := cmp.Diff(wantBody, body); diff != "" {
			t.Errorf("body (-want +got):\n%s", diff)
		}
		if id := got.header.Get("webhook-id"); !strings.HasPrefix(id, "msg_") || len(id) != 36 || strings.Contains(id, ".") {
			t.Errorf("webhook-id = %q, want msg_ and 32 characters without a dot", id)
		}
	})

	t.Run("every request has another id, and fields even if they are empty", func(t *testing.T) {
		t.Parallel()
		var mu sync.Mutex
		ids, bodies := map[string]bool{}, []string{}
		b := serve(t, func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			mu.Lock()
			ids[r.Header.Get("webhook-id")] = true
			bodies = append(bodies, string(body))
			mu.Unlock()
			answer(http.StatusCreated, named)(w, r)
		})
		c := newClient(t, b.trusting())
		for range 3 {
			if _, err := c.Ask(t.Context(), b.endpoint(t), webhook.Request{AppID: appID, Identity: identity}); err != nil {
				t.Fatal(err)
			}
		}
		if len(ids) != 3 || !strings.Contains(bodies[0], `"fields":{}`) {
			t.Errorf("ids %v, want 3 different ones; bodies %q, want empty fields", ids, bodies)
		}
	})

	t.Run("a refusal returns the message, but not in the error text", func(t *testing.T) {
		t.Parallel()
		b := serve(t, answer(http.StatusOK, refuse))
		_, err := newClient(t, b.trusting()).Ask(t.Context(), b.endpoint(t), liLei)
		var refused *webhook.Refused
		if !errors.As(err, &refused) || refused.UserMessage != "工号不存在，请联系人事" || auth.CodeOf(err) != auth.WebhookRefused {
			t.Fatalf("Ask() error = %v, want a refusal with its message", err)
		}
		if strings.Contains(err.Error(), "工号") {
			t.Errorf("Ask() error = %v, want it without the message", err)
		}
	})
}

func TestUnusableAnswers(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		handler http.HandlerFunc
		says    string
	}{
		"status 500":                            {answer(500, named), "status 500: the status must be 2xx"},
		"status 503":                            {answer(503, named), "status 503: the status must be 2xx"},
		"status 404":                            {answer(404, refuse), "status 404: the status must be 2xx"},
		"status 410":                            {answer(410, ""), "status 410: the status must be 2xx"},
		"status 204":                            {answer(204, ""), "not a JSON object"},
		"a login page":                          {answer(200, "<html>ECH0</html>"), "not a JSON object"},
		"half of an answer":                     {answer(200, named[:40]), "unusable answer"},
		"a body beyond 64 KiB":                  {answer(200, named+strings.Repeat(" ", 64<<10)), "longer than 65536 bytes"},
		"an answer that echoes":                 {echo("%s"), "not a JSON object"},
		"an answer with an echo as a member":    {echo(`{"%s":1}`), "unknown member; allowed members: person, refused"},
		"a phone that echoes":                   {echo(`{"person":{"external_id":"1","name":"a","phone":"%s"}}`), "person.phone"},
		"a dropped connection":                  {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "the connection was closed"},
		"a connection that drops in the middle": {cut("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{"), "the connection was closed"},
		"a status line that echoes":             {cut("ECH0 F1ELD\r\n\r\n"), "withheld"},
		"an endless header": {func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("X-Long", strings.Repeat("x", 32<<10))
			answer(200, named)(w, r)
		}, "withheld"},
	} {
		t.Run(name+" is unavailable after one request", func(t *testing.T) {
			t.Parallel()
			b := serve(t, tc.handler)
			_, err := newClient(t, b.trusting()).Ask(t.Context(), b.endpoint(t), liLei)
			f := wantFailure(t, err, tc.says)
			if f.Host != b.Listener.Addr().String() || f.Timeout() {
				t.Errorf("failure = %+v, want this host and no timeout", f)
			}
			if b.asked.Load() != 1 {
				t.Errorf("%d requests, want 1", b.asked.Load())
			}
		})
	}

	t.Run("an endless body is not read to its end", func(t *testing.T) {
		t.Parallel()
		stopped := make(chan struct{})
		b := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			defer close(stopped)
			for chunk := strings.Repeat("x", 32<<10); ; {
				if _, err := io.WriteString(w, chunk); err != nil {
					return
				}
			}
		})
		_, err := newClient(t, b.trusting()).Ask(t.Context(), b.endpoint(t), liLei)
		wantFailure(t, err, "longer than 65536 bytes")
		<-stopped
	})

	for _, status := range []int{301, 302, 303, 307, 308} {
		t.Run(fmt.Sprintf("redirect %d is not followed", status), func(t *testing.T) {
			t.Parallel()
			elsewhere := serve(t, answer(200, named))
			b := serve(t, func(w http.ResponseWriter, r *http.Request) {
				http.Redirect(w, r, elsewhere.URL+"/ECH0", status)
			})
			_, err := newClient(t, b.trusting()).Ask(t.Context(), b.endpoint(t), liLei)
			wantFailure(t, err, "redirects are not followed")
			if elsewhere.asked.Load() != 0 {
				t.Error("the client followed the redirect")
			}
		})
	}

	t.Run("an answer after the timeout is a failure", func(t *testing.T) {
		t.Parallel()
		for name, handler := range map[string]http.HandlerFunc{
			"silent": func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body); <-r.Context().Done() },
			"trickle": func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body)
				_, _ = io.WriteString(w, named[:10])
				_ = http.NewResponseController(w).Flush()
				<-r.Context().Done()
			},
		} {
			b := serve(t, handler)
			cfg := b.trusting()
			cfg.Timeout = 200 * time.Millisecond
			_, err := newClient(t, cfg).Ask(t.Context(), b.endpoint(t), liLei)
			if f := wantFailure(t, err, "timed out after 200ms"); !f.Timeout() || errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%s: Ask() error = %v, want a timeout that wraps nothing", name, err)
			}
		}
	})

	t.Run("a partial answer that ends properly at the timeout is a failure", func(t *testing.T) {
		t.Parallel()
		b := serve(t, answer(http.StatusOK, named))
		cfg := b.trusting()
		cfg.Timeout = 20 * time.Millisecond
		c := newClient(t, cfg)
		c.SetTransport(hangsUp{named[:10]})
		_, err := c.Ask(t.Context(), b.endpoint(t), liLei)
		wantFailure(t, err, "timed out after 20ms")
		// A complete answer is accepted even at the timeout.
		c.SetTransport(hangsUp{named})
		if _, err := c.Ask(t.Context(), b.endpoint(t), liLei); err != nil {
			t.Errorf("Ask() error = %v for a complete answer", err)
		}
	})

	t.Run("a caller that gives up gets the error of its context", func(t *testing.T) {
		t.Parallel()
		ctx, cancel := context.WithCancel(t.Context())
		b := serve(t, func(_ http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			cancel()
			<-r.Context().Done()
		})
		_, err := newClient(t, b.trusting()).Ask(ctx, b.endpoint(t), liLei)
		if e := (*auth.Error)(nil); !errors.Is(err, context.Canceled) || errors.As(err, &e) {
			t.Errorf("Ask() error = %v, want only %v", err, context.Canceled)
		}
	})
}

func TestAskRefusesToConnect(t *testing.T) {
	t.Parallel()

	t.Run("a certificate of an unknown authority", func(t *testing.T) {
		t.Parallel()
		b := serve(t, answer(200, named))
		_, err := newClient(t, webhook.Config{AllowNetworks: loopback, RootCAs: x509.NewCertPool(), Timeout: time.Minute}).Ask(t.Context(), b.endpoint(t), liLei)
		wantFailure(t, err, "tls: failed to verify certificate")
		if b.asked.Load() != 0 {
			t.Error("the request was sent")
		}
	})
	t.Run("the certificate of another host", func(t *testing.T) {
		t.Parallel()
		b := serve(t, answer(200, named))
		to := b.endpoint(t)
		b2, err := net.Listen("tcp", "127.0.0.2:0")
		if err != nil {
			t.Fatal(err)
		}
		other := &http.Server{Handler: b.Config.Handler, ErrorLog: log.New(io.Discard, "", 0), ReadHeaderTimeout: time.Minute}
		var served sync.WaitGroup
		served.Go(func() { _ = other.Serve(tls.NewListener(b2, b.TLS)) })
		defer served.Wait()
		defer other.Close()
		to.URL = "https://" + b2.Addr().String() + "/"
		_, err = newClient(t, b.trusting()).Ask(t.Context(), to, liLei)
		wantFailure(t, err, "tls: failed to verify certificate")
		if b.asked.Load() != 0 {
			t.Error("the request was sent")
		}
	})
	t.Run("TLS 1.1 or no TLS", func(t *testing.T) {
		t.Parallel()
		old := &backEnd{secret: webhook.NewSecret(), Server: httptest.NewUnstartedServer(answer(200, named))}
		old.Config.ErrorLog = log.New(io.Discard, "", 0)
		old.TLS = &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}
		old.StartTLS()
		t.Cleanup(old.Close)
		_, err := newClient(t, old.trusting()).Ask(t.Context(), old.endpoint(t), liLei)
		wantFailure(t, err, "protocol version not supported")

		plain := httptest.NewServer(answer(200, named))
		t.Cleanup(plain.Close)
		to := old.endpoint(t)
		to.URL = "https://" + plain.Listener.Addr().String()
		_, err = newClient(t, old.trusting()).Ask(t.Context(), to, liLei)
		wantFailure(t, err, "the peer does not speak TLS")
	})
	t.Run("an address that is not allowed", func(t *testing.T) {
		t.Parallel()
		b := serve(t, answer(200, named))
		cfg := b.trusting()
		cfg.AllowNetworks = nil
		_, err := newClient(t, cfg).Ask(t.Context(), b.endpoint(t), liLei)
		wantFailure(t, err, "the URL is no longer allowed")
		// A name that resolves to it: the dialled address is checked.
		to := b.endpoint(t)
		to.URL = strings.Replace(to.URL, "127.0.0.1", "localhost", 1)
		_, err = newClient(t, cfg).Ask(t.Context(), to, liLei)
		wantFailure(t, err, "is neither on the public Internet")
		if b.asked.Load() != 0 {
			t.Error("the request was sent")
		}
	})
	t.Run("plain http without the unsafe option", func(t *testing.T) {
		t.Parallel()
		plain := httptest.NewServer(answer(200, named))
		t.Cleanup(plain.Close)
		key, err := webhook.ParseKey(webhook.NewSecret())
		if err != nil {
			t.Fatal(err)
		}
		to := webhook.Endpoint{URL: plain.URL, Keys: []webhook.Key{key}}
		_, err = newClient(t, webhook.Config{AllowNetworks: loopback, Timeout: time.Minute}).Ask(t.Context(), to, liLei)
		wantFailure(t, err, "https://")
		if _, err = newClient(t, webhook.Config{UnsafeLoopback: true, Timeout: time.Minute}).Ask(t.Context(), to, liLei); err != nil {
			t.Errorf("Ask() with the unsafe option: error = %v", err)
		}
	})
	t.Run("an app without a valid number of secrets", func(t *testing.T) {
		t.Parallel()
		b := serve(t, answer(200, named))
		to := b.endpoint(t)
		for name, keys := range map[string][]webhook.Key{"none": nil, "an empty one": {{}}, "many": {to.Keys[0], to.Keys[0], to.Keys[0], to.Keys[0], to.Keys[0]}} {
			to.Keys = keys
			_, err := newClient(t, b.trusting()).Ask(t.Context(), to, liLei)
			wantFailure(t, err, "1 to 4 webhook secrets")
			if b.asked.Load() != 0 {
				t.Errorf("%s: the request was sent", name)
			}
		}
	})
	t.Run("a closed port", func(t *testing.T) {
		t.Parallel()
		b := serve(t, answer(200, named))
		to := b.endpoint(t)
		to.URL = strings.Replace(to.URL, b.Listener.Addr().String(), netreasontest.UnusedAddr(t), 1)
		_, err := newClient(t, b.trusting()).Ask(t.Context(), to, liLei)
		wantFailure(t, err, "connection refused")
	})
}

func TestConcurrency(t *testing.T) {
	t.Parallel()
	arrived, release := make(chan struct{}, 100), make(chan struct{})
	b := serve(t, func(w http.ResponseWriter, r *http.Request) {
		arrived <- struct{}{}
		<-release
		answer(200, named)(w, r)
	})
	cfg := b.trusting()
	cfg.Concurrency, cfg.Timeout = 8, time.Minute
	c := newClient(t, cfg)
	var running sync.WaitGroup
	ask := func(app string) error {
		_, err := c.Ask(t.Context(), b.endpoint(t), webhook.Request{AppID: app, Identity: identity})
		return err
	}
	start := func(app string) {
		running.Go(func() {
			if err := ask(app); err != nil {
				t.Errorf("%s: error = %v", app, err)
			}
		})
		<-arrived
	}
	// One app may have a quarter of the eight requests.
	start("wx1")
	start("wx1")
	wantFailure(t, ask("wx1"), "too many requests")
	for _, app := range []string{"wx2", "wx2", "wx3", "wx3", "wx4", "wx4"} {
		start(app)
	}
	wantFailure(t, ask("wx5"), "too many requests")
	close(release)
	running.Wait()
	if err := ask("wx1"); err != nil {
		t.Errorf("Ask() after the other requests: error = %v", err)
	}
	if b.asked.Load() != 9 {
		t.Errorf("%d requests, want 9", b.asked.Load())
	}
}

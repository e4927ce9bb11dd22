package e2e

import (
	"bufio"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/yufu-auth/yufu/db/pgtest"
)

// The amounts of hostile traffic in each round.
const (
	mangledRequests = 2000
	strangers       = 1000 // login attempts, each from its own address
	attempts        = 500  // login attempts from one address
	forgedTokens    = 1000
	slowClients     = 100
	honestClients   = 50
	// enemies is the number of concurrent attackers of each kind.
	enemies = 4
)

// TestHostileClients has honest clients work while hostile ones attack the service. The
// honest clients must see no failure, and the memory must not grow.
func TestHostileClients(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	d := deploy(h, pgtest.Empty(t))
	d.env["YUFU_TRUSTED_PROXIES"] = "127.0.0.1"
	p, s := d.serve("yufu", "--migrate")
	d.addApp()

	round := func(seed uint64) {
		enemy := &enemy{service: s, seed: seed, answers: map[int]int{}, beat: make(chan struct{}), over: make(chan struct{})}
		honest := &honest{service: s}
		var work sync.WaitGroup
		for i := range honestClients {
			work.Go(func() { honest.client(i, enemy) })
		}
		enemy.attack()
		work.Wait()
		for _, err := range append(enemy.errs, honest.errs...) {
			t.Error(err)
		}
		t.Logf("seed %d: %d logins and %d refreshes of honest clients, beside hostile requests answered %v",
			seed, honest.logIns.Load(), honest.refreshes.Load(), enemy.answers)
	}

	const (
		memory = "process_resident_memory_bytes"
		// slack is the memory that the collector may leave, less than 4 KiB a request.
		slack     = 24 << 20
		maxRounds = 5
	)
	before := s.metrics()
	after := before
	// The first rounds fill pools and caches, and the collector runs when it does.
	// A leak grows in every round, so one round without growth shows that there is
	// none.
	for seed := uint64(1); ; seed++ {
		last := after[memory]
		round(seed)
		after = s.metrics()
		t.Logf("resident memory: %.1f MiB before round %d, %.1f MiB after it", last/(1<<20), seed, after[memory]/(1<<20))
		if seed > 1 && last > 0 && after[memory] <= last+slack {
			break
		}
		if seed == maxRounds {
			t.Errorf("the memory grew in each of %d rounds", maxRounds)
			break
		}
	}
	h.http.CloseIdleConnections()
	// Connections to WeChat and to the database stay for a while: fewer than the slow
	// clients of two rounds.
	s.eventually("the connections of the rounds are gone", func() bool {
		now := s.metrics()
		return now["go_goroutines"] <= before["go_goroutines"]+slowClients && now["process_open_fds"] <= before["process_open_fds"]+slowClients
	})
	for series, n := range after {
		if strings.HasPrefix(series, "yufu_http_requests_total") && strings.Contains(series, `status="5`) {
			t.Errorf("%s is %v, want 0", series, n)
		}
	}
	p.wantHealthy()
}

// honest are the clients that must not see failures.
type honest struct {
	*service
	logIns, refreshes atomic.Int64

	mu   sync.Mutex
	errs []error
}

// client is one honest client with its own address. It keeps pace with the enemy, and
// goes on until the enemy is done.
func (c *honest) client(i int, e *enemy) {
	s := c.from(fmt.Sprintf("10.0.0.%d", i))
	err := func() error {
		for logIn := 0; logIn < 2 || !e.done(); logIn++ {
			a, err := s.tryExchange(fmt.Sprintf("honest%d", i))
			if err = errors.Join(err, failureOf(a)); err != nil {
				return err
			}
			c.logIns.Add(1)
			for range 10 {
				select {
				case <-e.beat:
				case <-e.over:
				}
				a, err = s.tryRefresh(a.Doc.RefreshToken)
				if err = errors.Join(err, failureOf(a)); err != nil {
					return err
				}
				c.refreshes.Add(1)
			}
			a, err = s.get(s.base+"/v1/me", a.Doc.AccessToken)
			if err = errors.Join(err, failureOf(a)); err != nil {
				return err
			}
		}
		return nil
	}()
	if err != nil {
		c.mu.Lock()
		c.errs = append(c.errs, fmt.Errorf("honest client %d: %w", i, err))
		c.mu.Unlock()
	}
}

// failureOf is [answer.failure] for an answer that may be nil.
func failureOf(a *answer) error {
	if a == nil {
		return nil
	}
	return a.failure()
}

// enemy is the hostile clients.
type enemy struct {
	*service
	seed uint64
	beat chan struct{} // receives at every second answer, if a client listens
	over chan struct{} // closed at the end

	mu      sync.Mutex
	answers map[int]int // by status
	count   int
	errs    []error
}

func (e *enemy) done() bool {
	select {
	case <-e.over:
		return true
	default:
		return false
	}
}

// attack runs all attacks and returns when they are over.
func (e *enemy) attack() {
	defer close(e.over)
	slow := e.holdConnections()
	defer func() {
		for _, w := range slow {
			w.close()
		}
	}()
	mallory, err := e.from("192.0.2.66").tryExchange("mallory")
	if err != nil {
		e.record(nil, err)
		return
	}
	valid := []string{
		postForm(url.Values{"grant_type": {codeGrant}, "client_id": {testApp}, "code": {rand.Text()}, "device": {"a phone"}}.Encode()),
		postForm(url.Values{"grant_type": {"refresh_token"}, "client_id": {testApp}, "refresh_token": {mallory.Doc.RefreshToken}}.Encode()),
		raw("POST", "/oauth2/token", formType+isChunked, chunked("grant_type=refresh_token&client_id="+testApp+"&refresh_token=x")),
		raw("POST", "/oauth2/revoke", formType+"Authorization: Basic "+testApp+"\r\n", "token=x"),
		getMe("Authorization: Bearer " + mallory.Doc.AccessToken + "\r\nX-Forwarded-For: 192.0.2.66\r\n"),
		raw("GET", "/.well-known/jwks.json", "Accept: application/json\r\n", ""),
		raw("GET", "/.well-known/oauth-authorization-server", "Connection: keep-alive\r\n", ""),
	}
	var work sync.WaitGroup
	for i := range enemies {
		work.Go(func() {
			m := mangler{mathrand.New(mathrand.NewPCG(e.seed, uint64(i)))}
			for n := range mangledRequests / enemies {
				e.mangled(m.mangle(valid[n%len(valid)]))
			}
		})
		work.Go(func() {
			for n := range strangers / enemies {
				s := e.from(fmt.Sprintf("2001:db8:%x:%x::1", e.seed, n*enemies+i))
				e.record(s.exchangeCode(rand.Text()))
			}
		})
		work.Go(func() {
			for range forgedTokens / enemies {
				e.record(e.tryRefresh("yfr_" + strings.Repeat("A", 34) + rand.Text()))
			}
		})
	}
	work.Go(func() { e.storm("198.51.100.1") })
	work.Wait()
}

// storm tries one code after another from one address. Most of them must not reach the
// platform.
func (e *enemy) storm(address string) {
	s := e.from(address)
	accepted, began := 0, time.Now()
	for range attempts {
		a, err := s.exchangeCode(rand.Text())
		if err == nil && a.Status != http.StatusTooManyRequests {
			accepted++
		}
		e.record(a, err)
	}
	// YUFU_EXCHANGE_FAILURE_LIMIT is 120, refilled by two a second. The second round
	// starts with the rest of the first.
	took := time.Since(began)
	if accepted > 121+int(2*took.Seconds()) {
		e.record(nil, fmt.Errorf("%d of %d attempts from one address were accepted in %s", accepted, attempts, took))
	}
}

// record records an answer, which must not be a failure of the service.
func (e *enemy) record(a *answer, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if err != nil {
		e.errs = append(e.errs, err)
		return
	}
	e.answers[a.Status]++
	if e.count++; e.count%2 == 0 {
		select {
		case e.beat <- struct{}{}:
		default:
		}
	}
	// net/http answers 501 and 505 for an unknown transfer coding and version.
	if a.Status >= 500 && a.Status != 501 && a.Status != 505 {
		e.errs = append(e.errs, fmt.Errorf("a hostile request gets the answer %d %s", a.Status, a.Body))
	}
}

// holdConnections opens connections that send almost nothing.
func (e *enemy) holdConnections() (held []*wire) {
	say := []string{"", "POST /oauth2", postForm("grant_type=x")[:90], raw("POST", "/oauth2/token", formType+isChunked, "10\r\n")}
	for i := range slowClients {
		w, err := e.dial()
		if err == nil {
			held = append(held, w)
			err = w.send(say[i%len(say)])
		}
		if err != nil {
			e.record(nil, err)
		}
	}
	return held
}

// mangled sends a text unchanged, and reads the answer.
func (e *enemy) mangled(send string) {
	w, err := e.dial()
	if err != nil {
		e.record(nil, err)
		return
	}
	defer w.close()
	if err := w.send(send); err != nil {
		e.record(nil, err)
		return
	}
	method, _, _ := strings.Cut(send, " ")
	complete := false
	if r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(send))); err == nil {
		_, err = io.Copy(io.Discard, r.Body)
		complete = err == nil
	}
	if !complete {
		// Otherwise the server would wait for the rest.
		_ = w.conn.CloseWrite()
	}
	for {
		a, err := w.answer(method, "a mangled request")
		if hungUp(err) {
			return
		}
		e.record(a, err)
		if err != nil || complete {
			return
		}
	}
}

// mangler changes requests at random.
type mangler struct{ *mathrand.Rand }

// splices are texts that are difficult for parsers.
var splices = []string{
	"\r\n", "\n", "\r", "\x00", "\xff\xfe", "%00", "%", "&", "=", ";", ":", " ", "\t", "../", "%2e", "//", "HTTP/1.0", "HTTP/2.0",
	"Content-Length: 5\r\n", "Content-Length: 99999999999\r\n", "Transfer-Encoding: chunked\r\n", "Transfer-Encoding: gzip\r\n",
	"Expect: 100-continue\r\n", "Connection: close\r\n", "Upgrade: h2c\r\n", "Host: x\r\n", "Content-Type: text/plain\r\n",
	"grant_type=refresh_token&", "client_id=&", "refresh_token=yfr_&", "Authorization: Bearer \r\n", "X-Forwarded-For: ::1\r\n",
	"0\r\n\r\n", "FFFFFFFF\r\n", strings.Repeat("A", 4<<10), strings.Repeat("x=y&", 1<<10), strings.Repeat("X: y\r\n", 500),
}

// mangle returns the request with one to four changes.
func (m mangler) mangle(request string) string {
	b := request
	for range 1 + m.IntN(4) {
		from := m.IntN(len(b) + 1)
		to := from + m.IntN(min(40, len(b)-from)+1)
		head, part, tail := b[:from], b[from:to], b[to:]
		switch m.IntN(7) {
		case 0:
			if part != "" {
				part = string([]byte{part[0] ^ 1<<m.IntN(8)}) + part[1:]
			}
		case 1:
			part = ""
		case 2:
			part += part
		case 3:
			part = m.noise(len(part))
		case 4:
			part += splices[m.IntN(len(splices))]
		case 5:
			tail = ""
		case 6:
			head, tail = tail, head
		}
		b = head + part + tail
	}
	return b
}

func (m mangler) noise(n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(m.IntN(256))
	}
	return string(b)
}

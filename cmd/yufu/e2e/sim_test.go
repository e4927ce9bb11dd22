package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"

	"github.com/yufu-auth/yufu/pkg/platform/wechatsim"
)

// simulator is a simulated WeChat, in the test or in another process.
type simulator struct {
	h    *harness
	base string

	mu    sync.Mutex
	sent  map[string]int // code → number of requests with it
	holds chan held      // nil: no call is held
}

// held is a call that waits for its answer.
type held struct{ release chan struct{} }

// simulator starts a simulator in the test's process, where the test sees its requests
// and answers.
func (h *harness) simulator(cfg wechatsim.Config) *simulator {
	h.t.Helper()
	s := &simulator{h: h, sent: map[string]int{}}
	next := wechatsim.New(cfg).Handler()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasPrefix(r.URL.Path, "/sns/") {
			next.ServeHTTP(w, r)
			return
		}
		s.mu.Lock()
		s.sent[r.URL.Query().Get("js_code")]++
		holds := s.holds
		s.mu.Unlock()
		if holds != nil {
			call := held{make(chan struct{})}
			holds <- call
			<-call.release
		}
		next.ServeHTTP(&overheard{w, h}, r)
	}))
	s.base = server.URL
	h.t.Cleanup(server.Close)
	return s
}

// overheard registers the session_key of an answer as a secret.
type overheard struct {
	http.ResponseWriter
	h *harness
}

func (o *overheard) Write(b []byte) (int, error) {
	var answer struct {
		SessionKey string `json:"session_key"`
	}
	if json.Unmarshal(b, &answer) == nil {
		o.h.secret("a session_key", answer.SessionKey)
	}
	return o.ResponseWriter.Write(b)
}

func (o *overheard) Unwrap() http.ResponseWriter { return o.ResponseWriter }

func (o *overheard) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return http.NewResponseController(o.ResponseWriter).Hijack()
}

// hold makes every later call wait. The channel delivers the waiting calls.
func (s *simulator) hold() <-chan held {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.holds = make(chan held)
	return s.holds
}

// holdNoMore lets later calls pass.
func (s *simulator) holdNoMore() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.holds = nil
}

// timesSent returns how often the service sent a code.
func (s *simulator) timesSent(code string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sent[code]
}

// code returns a code as wx.login gives it to the user.
func (s *simulator) code(user string) (string, error) {
	a, err := s.post("/sim/codes", map[string]any{"user": user})
	if err != nil {
		return "", err
	}
	var doc struct {
		Code string `json:"code"`
	}
	if err := json.Unmarshal([]byte(a.Body), &doc); err != nil || doc.Code == "" {
		return "", fmt.Errorf("the simulator returned no code: %d %s", a.Status, a.Body)
	}
	return s.h.secret("a code", doc.Code), nil
}

// mustCode is code for the test's own goroutine.
func (s *simulator) mustCode(user string) string {
	s.h.t.Helper()
	code, err := s.code(user)
	if err != nil {
		s.h.t.Fatal(err)
	}
	return code
}

// fault makes the next calls fail.
func (s *simulator) fault(fault map[string]any) {
	s.h.t.Helper()
	if a := s.h.must(s.post("/sim/faults", fault)); a.Status/100 != 2 {
		s.h.t.Fatalf("POST /sim/faults answers %d %s", a.Status, a.Body)
	}
}

func (s *simulator) post(path string, body any) (*answer, error) {
	b, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequest(http.MethodPost, s.base+path, strings.NewReader(string(b)))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	return s.h.do(req)
}

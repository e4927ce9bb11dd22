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

// simulator is a simulated WeChat, of the test's own or of a process.
type simulator struct {
	h    *harness
	base string

	mu    sync.Mutex
	sent  map[string]int // code → how often it came
	holds chan held      // nil: nothing is held
}

// held is a call that waits to be answered.
type held struct{ release chan struct{} }

// simulator starts a simulator in the test's process, where the test sees what
// it is asked and what it answers.
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

// overheard notes the session_key of an answer as a secret.
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

// hold has every call wait from now on. The channel delivers those that wait.
func (s *simulator) hold() <-chan held {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.holds = make(chan held)
	return s.holds
}

// holdNoMore lets the calls to come through.
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

// code returns what wx.login would give the user.
func (s *simulator) code(user string) (string, error) {
	a, err := s.post("/sim/codes", map[string]any{"user": user})
	if err != nil {
		return "", err
	}
	var doc struct {
		Code string `json:"code"`
	}
	if err := json.Unmarshal([]byte(a.Body), &doc); err != nil || doc.Code == "" {
		return "", fmt.Errorf("the simulator gives no code: %d %s", a.Status, a.Body)
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

// fault has the next calls go wrong.
func (s *simulator) fault(fault map[string]any) {
	s.h.t.Helper()
	if a := s.h.must(s.post("/sim/faults", fault)); a.Status/100 != 2 {
		s.h.t.Fatalf("POST /sim/faults: %d %s", a.Status, a.Body)
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

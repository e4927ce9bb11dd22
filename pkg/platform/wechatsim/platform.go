package wechatsim

import (
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"slices"
	"time"
)

// maxBody bounds the body of a request, in bytes.
const maxBody = 1 << 20

// endpoint is one API of the platform.
type endpoint struct {
	method string
	do     func(*Simulator, *call) reply
}

// endpoints are the platform's APIs by path.
var endpoints = map[string]endpoint{
	"/sns/jscode2session":              {http.MethodGet, (*Simulator).code2Session},
	"/cgi-bin/stable_token":            {http.MethodPost, (*Simulator).stableToken},
	"/wxa/business/getuserphonenumber": {http.MethodPost, (*Simulator).phoneNumber},
	"/wxa/checksession":                {http.MethodGet, (*Simulator).checkSession},
	"/wxa/resetusersessionkey":         {http.MethodGet, (*Simulator).resetSessionKey},
}

func platformPaths() []string { return slices.Sorted(maps.Keys(endpoints)) }

// call is a parsed request to the platform.
type call struct {
	path string
	now  time.Time

	appID, secret, grantType, code string
	accessToken, openID            string
	signature, sigMethod           string
	forceRefresh                   bool
	unreadable                     bool // the body is not the expected JSON
}

// Call is the record of a call to the platform. It contains no secret, session_key or
// access token.
type Call struct {
	// Seq numbers the calls from 1.
	Seq int64 `json:"seq"`
	// At is the time of the call.
	At time.Time `json:"at"`
	// Method and Path are the request's.
	Method string `json:"method"`
	Path   string `json:"path"`
	// AppID, Code and OpenID are the values that were sent or, for an access token and
	// after a log-in, the values derived from them.
	AppID  string `json:"appid,omitempty"`
	Code   string `json:"code,omitempty"`
	OpenID string `json:"openid,omitempty"`
	// ForceRefresh is stable_token's force_refresh.
	ForceRefresh bool `json:"force_refresh,omitempty"`
	// Errcode is the result of the call, 0 for success. The caller may not have received
	// it: see Fault.
	Errcode int `json:"errcode"`
	// Outcome is "ok" or "refused", depending on Errcode.
	Outcome string `json:"outcome"`
	// Fault names the fault that hit the call: errcode, drop, empty,
	// malformed, status or delay.
	Fault string `json:"fault,omitempty"`
}

// Calls returns the last calls to the platform, oldest first.
func (s *Simulator) Calls() []Call {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls.all()
}

// servePlatform answers as WeChat does.
func (s *Simulator) servePlatform(w http.ResponseWriter, r *http.Request) {
	c := readCall(r)
	body, fault := s.perform(c, r.Method)
	w.Header().Set("Content-Type", "text/plain")
	fault.answer(w, r, body)
}

// perform applies the call, records it, and returns the answer and the fault that changes
// it.
func (s *Simulator) perform(c *call, method string) ([]byte, *Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c.now = s.now()
	if c.accessToken != "" {
		c.appID = s.appOfToken(c.accessToken)
	}
	fault := s.takeFault(c)
	end, exists := endpoints[c.path]
	var rep reply
	switch {
	case !exists:
		rep = refuse(errInvalidURL)
	case fault != nil && fault.Errcode != 0:
		rep = reply{errcode: fault.Errcode, errmsg: fault.Errmsg}
	case method != end.method && end.method == http.MethodGet:
		rep = refuse(errRequireGET)
	case method != end.method:
		rep = refuse(errRequirePOST)
	default:
		rep = end.do(s, c)
	}
	s.seq++
	outcome := "ok"
	if rep.errcode != 0 {
		outcome = "refused"
	}
	s.calls.add(Call{
		Seq: s.seq, At: c.now, Method: method, Path: c.path,
		AppID: c.appID, Code: c.code, OpenID: c.openID, ForceRefresh: c.forceRefresh,
		Errcode: rep.errcode, Outcome: outcome, Fault: fault.String(),
	})
	return rep.encode(c.now), fault
}

// readCall reads the parameters of all APIs.
func readCall(r *http.Request) *call {
	q := r.URL.Query()
	c := &call{
		path:        r.URL.Path,
		appID:       q.Get("appid"),
		secret:      q.Get("secret"),
		grantType:   q.Get("grant_type"),
		code:        q.Get("js_code"),
		accessToken: q.Get("access_token"),
		openID:      q.Get("openid"),
		signature:   q.Get("signature"),
		sigMethod:   q.Get("sig_method"),
	}
	if r.Method != http.MethodPost {
		return c
	}
	var body struct {
		AppID        string `json:"appid"`
		Secret       string `json:"secret"`
		GrantType    string `json:"grant_type"`
		ForceRefresh bool   `json:"force_refresh"`
		Code         string `json:"code"`
		OpenID       string `json:"openid"`
	}
	text, err := io.ReadAll(io.LimitReader(r.Body, maxBody))
	c.unreadable = err != nil || json.Unmarshal(text, &body) != nil
	c.appID, c.secret, c.grantType = body.AppID, body.Secret, body.GrantType
	c.code, c.openID, c.forceRefresh = body.Code, body.OpenID, body.ForceRefresh
	return c
}

package wechatsim

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Header is on every answer of a simulator, so that it cannot be mistaken for WeChat.
const Header = "X-Yufu-Simulator"

const welcome = `This is Yufu's simulator of WeChat, for tests and development. It is not WeChat:
any client that reaches it can log in as any user.

The platform:  GET  /sns/jscode2session
               POST /cgi-bin/stable_token
               POST /wxa/business/getuserphonenumber
               GET  /wxa/checksession
               GET  /wxa/resetusersessionkey

The controls take bodies with Content-Type: application/json.

               POST /sim/codes           {"user":"alice"}  ->  {"code":"..."}
               POST /sim/phone-codes     {"user":"alice","phone":"13800001002"}
               POST /sim/faults          {"errcode":-1,"count":1}
                    or "drop", "empty", "malformed": true, "status":502, "delay_ms":500;
                    with "count" or "probability", for one "path" or "appid"
               GET  /sim/faults, DELETE /sim/faults
               GET  /sim/calls
               POST /sim/encrypted-data  {"user":"alice","appid":"wx...","data":{}}
`

// Handler serves the platform, the controls below /sim/, and at / a page that describes
// them.
func (s *Simulator) Handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set(Header, "wechat")
		switch {
		case r.URL.Path == "/":
			w.Header().Set("Content-Type", "text/plain; charset=utf-8")
			_, _ = io.WriteString(w, welcome)
		case strings.HasPrefix(r.URL.Path, "/sim/"):
			s.serveControl(w, r)
		default:
			s.servePlatform(w, r)
		}
	})
}

// control performs one request and returns the answer or an error.
type control func(s *Simulator, body []byte) (any, error)

// controls are the controls by path and method.
var controls = map[string]map[string]control{
	"/sim/codes":          {http.MethodPost: controlCode},
	"/sim/phone-codes":    {http.MethodPost: controlPhoneCode},
	"/sim/encrypted-data": {http.MethodPost: controlEncryptedData},
	"/sim/faults": {
		http.MethodPost:   controlAddFault,
		http.MethodGet:    controlFaults,
		http.MethodDelete: controlClearFaults,
	},
	"/sim/calls": {http.MethodGet: controlCalls},
}

func (s *Simulator) serveControl(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	if !localHost(r.Host) {
		writeError(w, http.StatusForbidden, "the controls do not answer under a public DNS name; use localhost or an IP address")
		return
	}
	methods, known := controls[r.URL.Path]
	if !known {
		writeError(w, http.StatusNotFound, "no such control; the controls are "+strings.Join(slices.Sorted(maps.Keys(controls)), ", "))
		return
	}
	do, known := methods[r.Method]
	if !known {
		allow := strings.Join(slices.Sorted(maps.Keys(methods)), ", ")
		w.Header().Set("Allow", allow)
		writeError(w, http.StatusMethodNotAllowed, r.URL.Path+" takes "+allow)
		return
	}
	// A web page can send other types to any address without a preflight request.
	if mediaType, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); r.Method == http.MethodPost && (err != nil || mediaType != "application/json") {
		writeError(w, http.StatusUnsupportedMediaType, "send the body with Content-Type: application/json; with curl: -H 'Content-Type: application/json'")
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		writeError(w, http.StatusBadRequest, "the body is incomplete or longer than 1 MiB")
		return
	}
	answer, err := do(s, body)
	if err != nil {
		writeError(w, http.StatusBadRequest, err.Error())
		return
	}
	_, _ = w.Write(append(encodeJSON(answer), '\n'))
}

// localHost reports whether a Host header has an IP address or a name that cannot be
// registered in the public DNS. Any other name may belong to a web page that pointed its
// name here (DNS rebinding), so that the browser lets it read the answers and log in as
// any user.
func localHost(hostport string) bool {
	host := hostport
	if h, _, err := net.SplitHostPort(hostport); err == nil {
		host = h
	}
	if _, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil {
		return true
	}
	labels := strings.Split(strings.ToLower(strings.TrimSuffix(host, ".")), ".")
	switch labels[len(labels)-1] {
	case "localhost", "internal", "local", "test":
		return true
	}
	return len(labels) == 1
}

func writeError(w http.ResponseWriter, status int, message string) {
	w.WriteHeader(status)
	_, _ = w.Write(append(encodeJSON(map[string]string{"error": message}), '\n'))
}

// decodeControl reads the single JSON object of a control.
func decodeControl(body []byte, into any, example string) error {
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.DisallowUnknownFields()
	err := dec.Decode(into)
	if err == nil {
		if _, more := dec.Token(); !errors.Is(more, io.EOF) {
			err = errors.New("the body has more than one value")
		}
	}
	if err != nil {
		return fmt.Errorf("send JSON such as %s (%s)", example, strings.TrimPrefix(err.Error(), "json: "))
	}
	return nil
}

func checkUser(user string) error {
	if user == "" || len(user) > 128 || !utf8.ValidString(user) || strings.ContainsFunc(user, unicode.IsControl) {
		return errors.New(`"user" must be a name of 1 to 128 bytes without control characters, such as "alice"`)
	}
	return nil
}

func (s *Simulator) checkAppID(appID string) error {
	if _, registered := s.apps[appID]; len(s.apps) > 0 && !registered {
		return errors.New(`"appid" is not one of the registered apps`)
	}
	if !validAppID(appID) {
		return errors.New(`"appid" must be 1 to 64 letters and digits, such as "wxdevelopment0001"`)
	}
	return nil
}

type codeAnswer struct {
	Code      string `json:"code"`
	ExpiresIn int    `json:"expires_in"`
}

func controlCode(s *Simulator, body []byte) (any, error) {
	var ask struct{ User, AppID string }
	if err := decodeControl(body, &ask, `{"user":"alice"}`); err != nil {
		return nil, err
	}
	if err := checkUser(ask.User); err != nil {
		return nil, err
	}
	if ask.AppID != "" {
		if err := s.checkAppID(ask.AppID); err != nil {
			return nil, err
		}
	}
	return codeAnswer{s.NewAppCode(ask.AppID, ask.User), int(codeLife / time.Second)}, nil
}

var phonePattern = regexp.MustCompile(`^(\+[0-9]{1,4} )?[0-9]{4,15}$`)

func controlPhoneCode(s *Simulator, body []byte) (any, error) {
	var ask struct{ User, Phone string }
	if err := decodeControl(body, &ask, `{"user":"alice","phone":"13800001002"}`); err != nil {
		return nil, err
	}
	if err := checkUser(ask.User); err != nil {
		return nil, err
	}
	if !phonePattern.MatchString(ask.Phone) {
		return nil, errors.New(`"phone" must be digits, such as "13800001002" or "+852 61234567"`)
	}
	return codeAnswer{s.NewPhoneCode(ask.User, ask.Phone), int(codeLife / time.Second)}, nil
}

func controlEncryptedData(s *Simulator, body []byte) (any, error) {
	var ask struct {
		User, AppID string
		Data        json.RawMessage
	}
	if err := decodeControl(body, &ask, `{"user":"alice","appid":"wxdevelopment0001","data":{"nickName":"Alice"}}`); err != nil {
		return nil, err
	}
	if err := checkUser(ask.User); err != nil {
		return nil, err
	}
	if err := s.checkAppID(ask.AppID); err != nil {
		return nil, err
	}
	return s.EncryptedData(ask.AppID, ask.User, ask.Data)
}

// faultJSON is a [Fault] as JSON.
type faultJSON struct {
	Errcode     int     `json:"errcode,omitempty"`
	Errmsg      string  `json:"errmsg,omitempty"`
	Drop        bool    `json:"drop,omitempty"`
	Empty       bool    `json:"empty,omitempty"`
	Malformed   bool    `json:"malformed,omitempty"`
	Status      int     `json:"status,omitempty"`
	DelayMS     int64   `json:"delay_ms,omitempty"`
	Count       int     `json:"count,omitempty"`
	Probability float64 `json:"probability,omitempty"`
	Path        string  `json:"path,omitempty"`
	AppID       string  `json:"appid,omitempty"`
}

type faultsAnswer struct {
	Faults []faultJSON `json:"faults"`
}

func controlAddFault(s *Simulator, body []byte) (any, error) {
	var ask faultJSON
	if err := decodeControl(body, &ask, `{"errcode":-1,"count":1}`); err != nil {
		return nil, err
	}
	if ask.DelayMS < 0 || ask.DelayMS > maxFaultDelay.Milliseconds() {
		return nil, errors.New("delay_ms must be between 0 and 600000") // checked before it can overflow
	}
	err := s.AddFault(Fault{
		Errcode: ask.Errcode, Errmsg: ask.Errmsg,
		Drop: ask.Drop, Empty: ask.Empty, Malformed: ask.Malformed, Status: ask.Status,
		Delay: time.Duration(ask.DelayMS) * time.Millisecond,
		Count: ask.Count, Probability: ask.Probability, Path: ask.Path, AppID: ask.AppID,
	})
	if err != nil {
		return nil, err
	}
	return controlFaults(s, nil)
}

func controlFaults(s *Simulator, _ []byte) (any, error) {
	answer := faultsAnswer{Faults: []faultJSON{}}
	for _, f := range s.Faults() {
		answer.Faults = append(answer.Faults, faultJSON{
			Errcode: f.Errcode, Errmsg: f.Errmsg,
			Drop: f.Drop, Empty: f.Empty, Malformed: f.Malformed, Status: f.Status,
			DelayMS: f.Delay.Milliseconds(),
			Count:   f.Count, Probability: f.Probability, Path: f.Path, AppID: f.AppID,
		})
	}
	return answer, nil
}

func controlClearFaults(s *Simulator, _ []byte) (any, error) {
	s.ClearFaults()
	return controlFaults(s, nil)
}

func controlCalls(s *Simulator, _ []byte) (any, error) {
	return struct {
		Calls []Call `json:"calls"`
	}{s.Calls()}, nil
}

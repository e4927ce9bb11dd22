package wechatsim

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"
)

// The errcodes that the simulator returns without a fault.
const (
	errDeadToken       = 40001
	errGrantType       = 40002
	errInvalidOpenID   = 40003
	errInvalidAppID    = 40013
	errMalformedToken  = 40014
	errInvalidCode     = 40029
	errInvalidURL      = 40066
	errInvalidSecret   = 40125
	errCodeUsed        = 40163
	errTokenMissing    = 41001
	errAppIDMissing    = 41002
	errSecretMissing   = 41004
	errCodeMissing     = 41008
	errTokenExpired    = 42001
	errRequireGET      = 43001
	errRequirePOST     = 43002
	errDailyQuota      = 45009
	errDataFormat      = 47001
	errNoSessionKey    = 87007
	errSignatureMethod = 87008
	errSignature       = 87009
)

// errmsgs are WeChat's texts, also for errcodes that only a fault causes.
var errmsgs = map[int]string{
	-1:                 "system error",
	errDeadToken:       "invalid credential, access_token is invalid or not latest",
	errGrantType:       "invalid grant_type",
	errInvalidOpenID:   "invalid openid",
	errInvalidAppID:    "invalid appid",
	errMalformedToken:  "invalid access_token",
	errInvalidCode:     "invalid code",
	errInvalidURL:      "invalid url",
	errInvalidSecret:   "invalid appsecret",
	errCodeUsed:        "code been used",
	40164:              "invalid ip 127.0.0.1, not in whitelist",
	40226:              "code blocked",
	40243:              "appsecret frozen",
	errTokenMissing:    "access_token missing",
	errAppIDMissing:    "appid missing",
	errSecretMissing:   "appsecret missing",
	errCodeMissing:     "missing code",
	errTokenExpired:    "access_token expired",
	errRequireGET:      "require GET method",
	errRequirePOST:     "require POST method",
	errDailyQuota:      "reach max api daily quota limit",
	45011:              "api minute-quota reach limit, must slower, retry next minute",
	errDataFormat:      "data format error",
	50004:              "api forbidden for this account",
	50007:              "account frozen",
	errNoSessionKey:    "session_key is not existd or expired",
	errSignatureMethod: "invalid sig_method",
	errSignature:       "invalid signature",
}

// reply is WeChat's answer to a call: an errcode, or a body.
type reply struct {
	errcode int
	errmsg  string // replaces the usual text
	body    any
}

func refuse(errcode int) reply { return reply{errcode: errcode} }

// okBody is part of the answer of APIs that include an errcode on success.
type okBody struct {
	Errcode int    `json:"errcode"`
	Errmsg  string `json:"errmsg"`
}

var ok = okBody{Errmsg: "ok"}

// encode returns the bytes WeChat would send at now.
func (r reply) encode(now time.Time) []byte {
	if r.errcode == 0 {
		return encodeJSON(r.body)
	}
	msg := r.errmsg
	if msg == "" {
		msg = errmsgs[r.errcode]
	}
	if msg == "" {
		msg = "simulated error"
	}
	return encodeJSON(okBody{r.errcode, msg + ", rid: " + newRID(now)})
}

// newRID returns a request id in WeChat's form: the time and two random
// numbers, in hexadecimal.
func newRID(now time.Time) string {
	r := randomBytes(8)
	return fmt.Sprintf("%08x-%s-%s", uint32(now.Unix()), hex.EncodeToString(r[:4]), hex.EncodeToString(r[4:]))
}

// encodeJSON encodes as WeChat does: compact, without escaping for HTML.
func encodeJSON(v any) []byte {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		panic(fmt.Sprintf("wechatsim: cannot encode a reply: %v", err)) // a bug: replies are plain structs
	}
	return bytes.TrimRight(b.Bytes(), "\n")
}

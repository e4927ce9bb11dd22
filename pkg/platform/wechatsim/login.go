package wechatsim

import (
	"encoding/base64"
	"time"
)

// codeMemory is the minimum time that an expired code is remembered. Tests set their
// clock back, and then the code must work again.
const codeMemory = 24 * time.Hour

// loginCode is a code of wx.login.
type loginCode struct {
	user, appID string // an empty appID means any app
	expires     time.Time
	used        bool
}

// NewCode returns a code as wx.login does: any one app can redeem it once within five
// minutes.
func (s *Simulator) NewCode(user string) string { return s.NewAppCode("", user) }

// NewAppCode is [Simulator.NewCode] for one app: other apps cannot redeem the code.
func (s *Simulator) NewAppCode(appID, user string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	s.codes.dropWhile(func(c *loginCode) bool { return now.Sub(c.expires) > codeMemory })
	code := randomText(32)
	s.codes.put(code, &loginCode{user: user, appID: appID, expires: now.Add(codeLife)})
	return code
}

type sessionBody struct {
	SessionKey string `json:"session_key"`
	OpenID     string `json:"openid"`
	UnionID    string `json:"unionid,omitempty"`
}

// code2Session serves GET /sns/jscode2session.
func (s *Simulator) code2Session(c *call) reply {
	switch {
	case c.appID == "":
		return refuse(errAppIDMissing)
	case c.secret == "":
		return refuse(errSecretMissing)
	case c.code == "":
		return refuse(errCodeMissing)
	case c.grantType != "authorization_code":
		return refuse(errGrantType)
	}
	if errcode := s.checkApp(c.appID, c.secret); errcode != 0 {
		return refuse(errcode)
	}
	code, known := s.codes.get(c.code)
	switch {
	case !known, !c.now.Before(code.expires), code.appID != "" && code.appID != c.appID:
		return refuse(errInvalidCode)
	case code.used:
		return refuse(errCodeUsed)
	}
	code.used = true
	c.openID = OpenID(c.appID, code.user)
	body := sessionBody{SessionKey: s.newSessionKey(c.appID, c.openID), OpenID: c.openID}
	if s.unionID {
		body.UnionID = UnionID(code.user)
	}
	return reply{body: body}
}

// newSessionKey gives the account a new session_key, which replaces the old one.
func (s *Simulator) newSessionKey(appID, openID string) string {
	key := base64.StdEncoding.EncodeToString(randomBytes(16))
	s.sessions.put(account{appID, openID}, userSession{key: key})
	return key
}

package wechatsim

import (
	"encoding/hex"
	"strings"
	"time"
)

// phoneCode is a code of the getPhoneNumber button.
type phoneCode struct {
	user, phone string
	minted      time.Time
	used        bool
}

// NewPhoneCode returns a code as the getPhoneNumber button does: it yields the phone
// number once within five minutes. The number is one of mainland China, or has its
// country code before a space ("+852 61234567").
func (s *Simulator) NewPhoneCode(user, phone string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	s.phoneCodes.dropWhile(func(c *phoneCode) bool { return now.Sub(c.minted) > codeLife+codeMemory })
	code := hex.EncodeToString(randomBytes(32))
	s.phoneCodes.put(code, &phoneCode{user: user, phone: phone, minted: now})
	return code
}

type phoneBody struct {
	okBody
	PhoneInfo phoneInfo `json:"phone_info"`
}

type phoneInfo struct {
	PhoneNumber     string    `json:"phoneNumber"`
	PurePhoneNumber string    `json:"purePhoneNumber"`
	CountryCode     string    `json:"countryCode"`
	Watermark       watermark `json:"watermark"`
}

type watermark struct {
	Timestamp int64  `json:"timestamp"`
	AppID     string `json:"appid"`
}

// phoneNumber serves POST /wxa/business/getuserphonenumber. A code with another user's
// openid stays fresh.
func (s *Simulator) phoneNumber(c *call) reply {
	if errcode := s.checkToken(c); errcode != 0 {
		return refuse(errcode)
	}
	if c.unreadable {
		return refuse(errDataFormat)
	}
	code, known := s.phoneCodes.get(c.code)
	switch {
	case !known, code.used, c.now.Sub(code.minted) >= codeLife:
		return refuse(errInvalidCode)
	case c.openID != "" && c.openID != OpenID(c.appID, code.user):
		return refuse(errInvalidCode)
	}
	code.used = true
	country, pure, foreign := strings.Cut(strings.TrimPrefix(code.phone, "+"), " ")
	if !foreign {
		country, pure = "86", code.phone
	}
	return reply{body: phoneBody{ok, phoneInfo{
		PhoneNumber:     strings.ReplaceAll(code.phone, " ", ""),
		PurePhoneNumber: pure,
		CountryCode:     country,
		Watermark:       watermark{code.minted.Unix(), c.appID},
	}}}
}

package wechat

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/platform"
)

// ExchangePhoneCode implements [platform.Provider] with getPhoneNumber. It always sends
// the openid, so that WeChat refuses another user's code. The package comment lists the
// causes of its errors.
func (c *Client) ExchangePhoneCode(ctx context.Context, app platform.Credentials, user auth.PlatformAccount, code string) (string, error) {
	openID := user.OpenID()
	switch {
	case user.SubjectKind != auth.SubjectOpenID:
		return "", platform.Unsupported("phone numbers of users without an openid")
	case !validCode(code):
		return "", &auth.Error{Code: auth.PhoneCodeInvalid, Err: ErrCodeMalformed}
	case !validCredentials(app) || !validOpenID(openID):
		return "", &auth.Error{Code: auth.PlatformMisconfigured, Err: ErrCredentials}
	case c.tokens == nil:
		return "", &auth.Error{Code: auth.PlatformMisconfigured, Err: ErrNoTokenStore}
	}
	token, err := c.tokens.Token(ctx, app, "")
	if err != nil {
		return "", tokenFailure(ctx, err)
	}
	number, err := c.phoneNumber(ctx, app, token, openID, code)
	if tokenDied(err) {
		if token, err = c.tokens.Token(ctx, app, token); err != nil {
			return "", tokenFailure(ctx, err)
		}
		number, err = c.phoneNumber(ctx, app, token, openID, code)
	}
	if err != nil {
		if ctx.Err() != nil {
			return "", fmt.Errorf("wechat: the caller cancelled: %w", ctx.Err())
		}
		return "", phoneFailure(err)
	}
	return number, nil
}

// phoneNumber makes the call. Its errors are [*TransportError], [*AnswerError] and
// [*APIError].
func (c *Client) phoneNumber(ctx context.Context, app platform.Credentials, token auth.Secret, openID, code string) (string, error) {
	body, err := c.post(ctx, "/wxa/business/getuserphonenumber",
		url.Values{"access_token": {token.Reveal()}},
		map[string]any{"code": code, "openid": openID})
	if err != nil {
		return "", err
	}
	return decodePhone(body, app.AppID, token.Reveal(), openID, code)
}

// decodePhone reads the body of a 200 from getPhoneNumber, and returns the number if it
// was issued for the app, according to the watermark. Errors are those of decodeAnswer,
// and contain no number.
func decodePhone(body []byte, appID string, secrets ...string) (string, error) {
	answer, err := decodeAnswer(body, "phone_info", secrets...)
	if err != nil {
		return "", err
	}
	var info, watermark object
	if json.Unmarshal(answer["phone_info"], &info) != nil || info == nil {
		return "", malformed("no phone_info")
	}
	if json.Unmarshal(info["watermark"], &watermark) != nil || watermark == nil {
		return "", malformed("no watermark")
	}
	if of, ok := decodeText(watermark["appid"], maxID); !ok || of != appID {
		return "", malformed("the watermark has another appid")
	}
	country, countryOK := decodeDigits(info["countryCode"])
	pure, pureOK := decodeDigits(info["purePhoneNumber"])
	number, ok := e164(country, pure)
	if !countryOK || !pureOK || !ok {
		return "", malformed("no phone number")
	}
	return number, nil
}

// decodeDigits reads a string, or the digits of a whole number.
func decodeDigits(raw json.RawMessage) (string, bool) {
	if len(raw) > 0 && raw[0] == '"' {
		var s string
		err := json.Unmarshal(raw, &s)
		return s, err == nil
	}
	_, err := strconv.ParseUint(string(raw), 10, 64)
	return string(raw), err == nil
}

// separators are characters that people write between digits.
var separators = strings.NewReplacer(" ", "", "-", "", "(", "", ")", "", ".", "")

// e164 returns a number in E.164 form. The country code may begin with a plus sign or
// with the two zeros of an international call.
func e164(countryCode, pure string) (string, bool) {
	country := separators.Replace(countryCode)
	country = strings.TrimPrefix(strings.TrimPrefix(country, "+"), "00")
	if country == "" || len(country) > 4 {
		return "", false
	}
	number := "+" + country + separators.Replace(pure)
	return number, auth.ValidPhone(number)
}

// validOpenID reports whether s is well-formed: visible ASCII.
func validOpenID(s string) bool {
	return s != "" && len(s) <= maxID && !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' })
}

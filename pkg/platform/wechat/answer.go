package wechat

import (
	"bytes"
	"encoding/json"
	"net/http"
	"regexp"
	"strconv"
	"strings"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/netreason"
	"github.com/yufu-auth/yufu/pkg/platform"
)

const (
	// maxErrmsg bounds WeChat's error texts, in bytes.
	maxErrmsg = 256
	// maxID bounds openid and unionid, which so far have 28 characters.
	maxID = 128
	// maxSessionKey bounds session_key, which so far has 24 characters.
	maxSessionKey = 256
)

// ridPattern finds the request id at the end of an errmsg.
var ridPattern = regexp.MustCompile(`rid: ?([0-9A-Za-z-]{1,64})`)

// object is a JSON object. It is not a struct, because a struct's names match in any
// case, and an "ErrCode" would be read as the errcode.
type object map[string]json.RawMessage

// decodeAnswer reads the body of a 200. Only the errcode decides; it is absent on
// success, or 0, or either as a string. An error text never contains a text in secrets,
// nor that of the member named hidden if it comes with an errcode. Errors are [*APIError]
// and [*AnswerError].
func decodeAnswer(body []byte, hidden string, secrets ...string) (object, error) {
	var answer object
	body = bytes.TrimSpace(bytes.TrimPrefix(body, []byte("\xef\xbb\xbf")))
	if len(body) == 0 {
		return nil, malformed("empty")
	}
	if body[0] != '{' || json.Unmarshal(body, &answer) != nil {
		return nil, malformed("not a JSON object")
	}
	errcode, ok := decodeErrcode(answer["errcode"])
	if !ok {
		return nil, malformed("errcode is not a number")
	}
	if errcode != 0 {
		// An errmsg of another type must not hide the errcode.
		var errmsg, hiddenText string
		_ = json.Unmarshal(answer["errmsg"], &errmsg)
		_ = json.Unmarshal(answer[hidden], &hiddenText)
		errmsg = redact(redact(errmsg, secrets...), hiddenText)
		e := &APIError{Errcode: errcode, Errmsg: netreason.Clean(errmsg, maxErrmsg)}
		if rid := ridPattern.FindStringSubmatch(errmsg); rid != nil {
			e.RID = rid[1]
		}
		return nil, e
	}
	return answer, nil
}

// decodeSession reads the body of a 200 from code2Session. Other members are ignored.
// Errors are those of decodeAnswer.
func decodeSession(body []byte, secrets ...string) (platform.Account, error) {
	answer, err := decodeAnswer(body, "session_key", secrets...)
	if err != nil {
		return platform.Account{}, err
	}
	openID, openOK := decodeText(answer["openid"], maxID)
	sessionKey, keyOK := decodeText(answer["session_key"], maxSessionKey)
	unionID, unionOK := decodeText(answer["unionid"], maxID)
	switch {
	case !openOK || openID == "":
		return platform.Account{}, malformed("no openid")
	case !keyOK || sessionKey == "":
		return platform.Account{}, malformed("no session_key")
	case !unionOK:
		return platform.Account{}, malformed("unionid is invalid")
	}
	account := platform.Account{PlatformAccount: auth.OpenIDAccount(openID), SessionKey: auth.Secret(sessionKey)}
	account.UnionID = unionID
	return account, nil
}

func malformed(reason string) *AnswerError {
	return &AnswerError{Status: http.StatusOK, Reason: reason}
}

// decodeErrcode reads an errcode: absent or null is 0; it may be an integer or a string
// of one.
func decodeErrcode(raw json.RawMessage) (int, bool) {
	if len(raw) == 0 || string(raw) == "null" {
		return 0, true
	}
	return decodeInt(raw)
}

// decodeInt reads a 32-bit integer, or a string of one.
func decodeInt(raw json.RawMessage) (int, bool) {
	if len(raw) == 0 {
		return 0, false
	}
	text := string(raw)
	if raw[0] == '"' {
		if json.Unmarshal(raw, &text) != nil {
			return 0, false
		}
		text = strings.TrimSpace(text)
	}
	n, err := strconv.ParseInt(text, 10, 32)
	return int(n), err == nil
}

// decodeText reads a string of visible ASCII; absent and null are empty. Keys and ids are
// opaque, but only plain characters are stored, compared and put into headers.
func decodeText(raw json.RawMessage, max int) (string, bool) {
	if len(raw) == 0 || string(raw) == "null" {
		return "", true
	}
	var s string
	if json.Unmarshal(raw, &s) != nil || len(s) > max {
		return "", false
	}
	return s, !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' })
}

package wechat

import (
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/platform"
)

const (
	testKey    = "tiihtNczf5v6AKRyjwEUhQ=="
	testOpenID = "oGZUI0egBJY1zhBYw2KhdUfwVJJE"
)

func TestDecodeSession(t *testing.T) {
	t.Parallel()
	account := platform.Account{PlatformAccount: auth.OpenIDAccount(testOpenID), SessionKey: testKey}
	withUnion := account
	withUnion.UnionID = "ocMvos6NjeKLIBqg5Mr9QjxrP1FA"
	const fields = `"session_key":"tiihtNczf5v6AKRyjwEUhQ==","openid":"oGZUI0egBJY1zhBYw2KhdUfwVJJE"`
	for _, tc := range []struct {
		name, body string
		want       platform.Account
	}{
		{"errcode absent", `{` + fields + `}`, account},
		{"errcode 0", `{"errcode":0,` + fields + `}`, account},
		{"errcode null", `{"errcode":null,` + fields + `}`, account},
		{"errcode 0 as a string", `{"errcode":"0","errmsg":"ok",` + fields + `}`, account},
		{"a unionid", `{` + fields + `,"unionid":"ocMvos6NjeKLIBqg5Mr9QjxrP1FA"}`, withUnion},
		{"a unionid of null", `{` + fields + `,"unionid":null}`, account},
		{"expires_in, of any type", `{` + fields + `,"expires_in":{"never":"depend"}}`, account},
		{"errmsg of another type", `{"errmsg":7,` + fields + `}`, account},
		{"escaped slashes", `{"session_key":"tiihtNczf5v6AKRyjwEUhQ\u003d=","openid":"oGZUI0egBJY1zhBYw2KhdUfwVJJE"}`, account},
		{"white space and a byte order mark", "\xef\xbb\xbf\r\n {" + fields + "}\n", account},
	} {
		t.Run("reads a success with "+tc.name, func(t *testing.T) {
			t.Parallel()
			got, err := decodeSession([]byte(tc.body))
			if err != nil || got != tc.want {
				t.Errorf("decodeSession() = %+v, %v", got, err)
			}
		})
	}

	for _, tc := range []struct {
		name, body string
		want       APIError
	}{
		{"a number", `{"errcode":40029,"errmsg":"invalid code, rid: 6538ac7d-18c7e09b-572e68c3"}`,
			APIError{40029, "invalid code, rid: 6538ac7d-18c7e09b-572e68c3", "6538ac7d-18c7e09b-572e68c3"}},
		{"a string", `{"errcode":"40163","errmsg":"code been used"}`, APIError{40163, "code been used", ""}},
		{"a padded string", `{"errcode":" 40163 "}`, APIError{40163, "", ""}},
		{"a negative number", `{"errcode":-1,"errmsg":"system error"}`, APIError{-1, "system error", ""}},
		{"a rid without a space", `{"errcode":45011,"errmsg":"limit rid:65ffe934-2355113d"}`,
			APIError{45011, "limit rid:65ffe934-2355113d", "65ffe934-2355113d"}},
		{"a namesake of errcode in another case", `{"errcode":40029,"ErrCode":0,` + fields + `}`, APIError{40029, "", ""}},
		{"an errmsg of another type", `{"errcode":40029,"errmsg":{"a":1}}`, APIError{40029, "", ""}},
		{"a session all the same", `{"errcode":-1,"openid":"o","session_key":"` + testKey + `","errmsg":"for ` + testKey + `"}`,
			APIError{-1, "for [redacted]", ""}},
		{"an errmsg in several lines", `{"errcode":-1,"errmsg":"a\r\nlevel=ERROR\u001b[0m\u202eb"}`,
			APIError{-1, "a  level=ERROR [0m b", ""}},
		{"an errmsg that echoes the request",
			`{"errcode":40125,"errmsg":"bad secret=p%2Bq%3Dr js_code=c0de0c0de0 or p+q=r"}`,
			APIError{40125, "bad secret=[redacted] js_code=[redacted] or [redacted]", ""}},
	} {
		t.Run("reads a refusal with "+tc.name, func(t *testing.T) {
			t.Parallel()
			_, err := decodeSession([]byte(tc.body), "p+q=r", "c0de0c0de0")
			var got *APIError
			if !errors.As(err, &got) {
				t.Fatalf("decodeSession() error = %v", err)
			}
			if diff := cmp.Diff(tc.want, *got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}

	t.Run("truncates errmsg and keeps a rid beyond the limit", func(t *testing.T) {
		t.Parallel()
		body := `{"errcode":1,"errmsg":"` + strings.Repeat("错", 1000) + `, rid: 6538ac7d-18c7e09b"}`
		_, err := decodeSession([]byte(body))
		var got *APIError
		if !errors.As(err, &got) {
			t.Fatalf("decodeSession() error = %v", err)
		}
		if len(got.Errmsg) > maxErrmsg || !utf8.ValidString(got.Errmsg) || !strings.HasSuffix(got.Errmsg, "…") {
			t.Errorf("Errmsg has %d bytes: %q", len(got.Errmsg), got.Errmsg)
		}
		if got.RID != "6538ac7d-18c7e09b" {
			t.Errorf("rid = %q", got.RID)
		}
	})

	for name, body := range map[string]string{
		"nothing":                 ``,
		"white space":             " \r\n",
		"null":                    `null`,
		"an array":                `[]`,
		"a string":                `"ok"`,
		"a truncated object":      `{"session_key":"HyVFkGl5F5`,
		"two objects":             `{` + fields + `}{}`,
		"HTML":                    `<html>502</html>`,
		"an empty object":         `{}`,
		"no openid":               `{"session_key":"k"}`,
		"an empty openid":         `{"session_key":"k","openid":""}`,
		"an openid of number":     `{"session_key":"k","openid":7}`,
		"an openid with a space":  `{"session_key":"k","openid":"o x"}`,
		"an openid with NUL":      `{"session_key":"k","openid":"o\u0000"}`,
		"an endless openid":       `{"session_key":"k","openid":"` + strings.Repeat("o", 129) + `"}`,
		"no session_key":          `{"openid":"o"}`,
		"an empty session_key":    `{"openid":"o","session_key":""}`,
		"an endless session_key":  `{"openid":"o","session_key":"` + strings.Repeat("k", 257) + `"}`,
		"a hostile unionid":       `{"openid":"o","session_key":"k","unionid":"\u202e"}`,
		"errcode of words":        `{"errcode":"nope",` + fields + `}`,
		"errcode of nothing":      `{"errcode":"",` + fields + `}`,
		"errcode true":            `{"errcode":false,` + fields + `}`,
		"errcode with a fraction": `{"errcode":0.5,` + fields + `}`,
		"errcode beyond 32 bits":  `{"errcode":4294967296,` + fields + `}`,
	} {
		t.Run("refuses "+name, func(t *testing.T) {
			t.Parallel()
			got, err := decodeSession([]byte(body))
			var unusable *AnswerError
			if !errors.As(err, &unusable) || Class(err) != ClassMalformed {
				t.Errorf("decodeSession() = %+v, %v", got, err)
			}
		})
	}
}

// FuzzDecodeSession checks that no input causes a panic, success without openid and
// session_key, or an error that shows the request. Its seeds in testdata include real
// answers.
func FuzzDecodeSession(f *testing.F) {
	const planted = "5ec2e75ec2e75ec2"
	f.Fuzz(func(t *testing.T, body []byte) {
		account, err := decodeSession(body, planted)
		if err == nil {
			if account.OpenID() == "" || account.SessionKey == "" {
				t.Fatalf("success without openid or session_key: %+v", account)
			}
			if len(account.Subject) > maxID || len(account.UnionID) > maxID || len(account.SessionKey) > maxSessionKey {
				t.Fatalf("a member exceeds its limit: %+v", account)
			}
			return
		}
		if account != (platform.Account{}) {
			t.Fatalf("an account with an error: %+v", account)
		}
		if Class(err) == ClassOK || Class(err) == ClassInternal {
			t.Fatalf("Class(%v) = %s", err, Class(err))
		}
		text := err.Error()
		if strings.Contains(text, planted) {
			t.Fatalf("the error contains the secret: %q", text)
		}
		if len(text) > maxErrmsg+64 || !utf8.ValidString(text) || strings.ContainsAny(text, "\r\n\x00\x1b") {
			t.Fatalf("the error is not safe for a log: %q", text)
		}
	})
}

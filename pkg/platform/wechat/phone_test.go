package wechat

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/yufu-auth/yufu/pkg/auth"
)

const testAppID = "wx0123456789abcdef"

func TestDecodePhone(t *testing.T) {
	t.Parallel()
	phone := func(country, pure, appID string) string {
		return `{"errcode":0,"errmsg":"ok","phone_info":{"phoneNumber":"x","purePhoneNumber":` + pure + `,"countryCode":` + country +
			`,"watermark":{"timestamp":1637744274,"appid":` + appID + `}}}`
	}
	const ours = `"` + testAppID + `"`
	for name, tc := range map[string]struct{ body, want string }{
		"a numeric country code, as in WeChat's documentation": {phone(`86`, `"13800001002"`, ours), "+8613800001002"},
		"a country code as a string":                           {phone(`"86"`, `"13800001002"`, ours), "+8613800001002"},
		"a country code with a plus sign":                      {phone(`"+86"`, `"13800001002"`, ours), "+8613800001002"},
		"a country code with zeros":                            {phone(`"0086"`, `"13800001002"`, ours), "+8613800001002"},
		"a numeric phone number":                               {phone(`"86"`, `13800001002`, ours), "+8613800001002"},
		"separators":                                           {phone(`"1"`, `"(202) 555-0123"`, ours), "+12025550123"},
		"Hong Kong":                                            {phone(`"852"`, `"61234567"`, ours), "+85261234567"},
		"the Bahamas, whose code has four digits":              {phone(`"1242"`, `"3456789"`, ours), "+12423456789"},
		"no errcode":                                           {strings.Replace(phone(`86`, `"13800001002"`, ours), `"errcode":0,`, "", 1), "+8613800001002"},
	} {
		t.Run("reads "+name, func(t *testing.T) {
			t.Parallel()
			if got, err := decodePhone([]byte(tc.body), testAppID); err != nil || got != tc.want {
				t.Errorf("decodePhone() = %q, %v", got, err)
			}
		})
	}
	for name, body := range map[string]string{
		"an empty object":                `{}`,
		"no phone_info":                  `{"errcode":0}`,
		"a phone_info of null":           `{"phone_info":null}`,
		"a phone_info of string":         `{"phone_info":"13800001002"}`,
		"no watermark":                   `{"phone_info":{"purePhoneNumber":"13800001002","countryCode":"86"}}`,
		"an empty watermark":             `{"phone_info":{"purePhoneNumber":"13800001002","countryCode":"86","watermark":{}}}`,
		"another app's watermark":        phone(`86`, `"13800001002"`, `"wxother"`),
		"our appid in another case":      phone(`86`, `"13800001002"`, `"WX0123456789ABCDEF"`),
		"a namesake of the watermark":    `{"phone_info":{"purePhoneNumber":"13800001002","countryCode":"86","Watermark":{"appid":` + ours + `}}}`,
		"no country code":                phone(`""`, `"13800001002"`, ours),
		"a country code of null":         phone(`null`, `"13800001002"`, ours),
		"a country code of zeros":        phone(`"0000"`, `"13800001002"`, ours),
		"a country code with a fraction": phone(`8.6`, `"13800001002"`, ours),
		"a negative country code":        phone(`-86`, `"13800001002"`, ours),
		"a country code that is long":    phone(`"86138"`, `"00001002"`, ours),
		"no number":                      phone(`86`, `""`, ours),
		"a number of null":               phone(`86`, `null`, ours),
		"a number that is masked":        phone(`86`, `"138****1002"`, ours),
		"a number that is long":          phone(`86`, `"13800001002138"`, ours),
		"a number with full-width":       phone(`86`, `"1380000100２"`, ours),
		"a number with a line break":     phone(`86`, `"13800001002\n"`, ours),
	} {
		t.Run("refuses "+name, func(t *testing.T) {
			t.Parallel()
			got, err := decodePhone([]byte(body), testAppID)
			var unusable *AnswerError
			if !errors.As(err, &unusable) || got != "" {
				t.Errorf("decodePhone() = %q, %v", got, err)
			}
		})
	}
}

func TestDecodeToken(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)
	for name, tc := range map[string]struct {
		body string
		life time.Duration
	}{
		"a new token":                   {`{"access_token":"88_x-y","expires_in":7200}`, 2 * time.Hour},
		"an old token":                  {`{"access_token":"88_x-y","expires_in":345}`, 345 * time.Second},
		"expires_in as a string":        {`{"access_token":"88_x-y","expires_in":"7200"}`, 2 * time.Hour},
		"errcode 0":                     {`{"errcode":0,"access_token":"88_x-y","expires_in":7200}`, 2 * time.Hour},
		"the longest accepted lifetime": {`{"access_token":"88_x-y","expires_in":86400}`, 24 * time.Hour},
	} {
		t.Run("reads "+name, func(t *testing.T) {
			t.Parallel()
			got, err := decodeToken([]byte(tc.body), now)
			if err != nil || got.Text != "88_x-y" || !got.ExpiresAt.Equal(now.Add(tc.life)) {
				t.Errorf("decodeToken() expiry = %v, error %v", got.ExpiresAt, err)
			}
		})
	}
	for name, body := range map[string]string{
		"an empty object":            `{}`,
		"an empty token":             `{"access_token":"","expires_in":7200}`,
		"a token of number":          `{"access_token":7,"expires_in":7200}`,
		"a token with a space":       `{"access_token":"a b","expires_in":7200}`,
		"an endless token":           `{"access_token":"` + strings.Repeat("x", maxToken+1) + `","expires_in":7200}`,
		"no expires_in":              `{"access_token":"x"}`,
		"expires_in of null":         `{"access_token":"x","expires_in":null}`,
		"expires_in of zero":         `{"access_token":"x","expires_in":0}`,
		"a negative expires_in":      `{"access_token":"x","expires_in":-1}`,
		"an expires_in of two days":  `{"access_token":"x","expires_in":172800}`,
		"a fraction of a second":     `{"access_token":"x","expires_in":0.5}`,
		"an expires_in that is long": `{"access_token":"x","expires_in":99999999999999999999}`,
	} {
		t.Run("refuses "+name, func(t *testing.T) {
			t.Parallel()
			got, err := decodeToken([]byte(body), now)
			var unusable *AnswerError
			if !errors.As(err, &unusable) || got.Text != "" {
				t.Errorf("decodeToken() error = %v", err)
			}
		})
	}
}

// FuzzDecodePhone checks that no input causes a panic, a success that is not an E.164
// number of this app, or an error that shows the request.
func FuzzDecodePhone(f *testing.F) {
	const planted = "5ec2e75ec2e75ec2"
	f.Add([]byte(`{"errcode":0,"errmsg":"ok","phone_info":{"phoneNumber":"13800001002","purePhoneNumber":"13800001002","countryCode":86,"watermark":{"timestamp":1637744274,"appid":"` + testAppID + `"}}}`))
	f.Add([]byte(`{"errcode":40029,"errmsg":"invalid code hint: [` + planted + `] rid: 66165fe0-612cb3df-20194ddf"}`))
	f.Add([]byte(`{"phone_info":{"purePhoneNumber":"+1 (202)","countryCode":"00","watermark":{"appid":"` + testAppID + `"}}}`))
	f.Add([]byte(`{"phone_info":{"purePhoneNumber":"13800001002","countryCode":"86","\u0077atermark":{"appid":"` + testAppID + `"}}}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		number, err := decodePhone(body, testAppID, planted)
		if err == nil {
			// A name may contain escapes.
			marked := strings.Contains(string(body), "watermark") || strings.Contains(string(body), `\u`)
			if !auth.ValidPhone(number) || !marked {
				t.Fatalf("decodePhone() = %q, which is not valid", number)
			}
			return
		}
		if number != "" || strings.Contains(err.Error(), planted) || Class(err) == ClassInternal {
			t.Fatalf("decodePhone() = %q, %v", number, err)
		}
	})
}

// FuzzDecodeToken checks the same for access tokens.
func FuzzDecodeToken(f *testing.F) {
	const planted = "5ec2e75ec2e75ec2"
	now := time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)
	f.Add([]byte(`{"access_token":"88_abc","expires_in":7200}`))
	f.Add([]byte(`{"errcode":40125,"errmsg":"invalid appsecret ` + planted + ` rid: 66165fe0-612cb3df-20194ddf"}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		token, err := decodeToken(body, now, planted)
		if err == nil {
			if token.Text == "" || len(token.Text) > maxToken || !token.ExpiresAt.After(now) || token.ExpiresAt.After(now.Add(24*time.Hour)) {
				t.Fatalf("decodeToken() expiry = %v", token.ExpiresAt)
			}
			return
		}
		if token.Text != "" || strings.Contains(err.Error(), planted) || Class(err) == ClassInternal {
			t.Fatalf("decodeToken() error = %v", err)
		}
	})
}

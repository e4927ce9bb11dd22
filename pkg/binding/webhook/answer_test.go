package webhook

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/yufu-auth/yufu/pkg/auth"
)

func TestDecodeAnswer(t *testing.T) {
	t.Parallel()
	minimal := Person{ExternalID: "1001", Name: "李雷"}
	full := Person{ExternalID: "1001", Name: "李雷", Phone: "+8613800001001", Attributes: json.RawMessage(`{"department":"<R&D>","level":7}`)}
	for name, tc := range map[string]struct {
		body string
		want Person
	}{
		"the required members":      {`{"person":{"external_id":"1001","name":"李雷"}}`, minimal},
		"all members":               {`{"person":{"external_id":"1001","name":"李雷","phone":"+8613800001001","attributes":{"level":7, "department":"<R&D>"}}}`, full},
		"null for optional members": {`{"person":{"external_id":"1001","name":"李雷","phone":null,"attributes":null},"refused":null}`, minimal},
		"white space":               {" \r\n{ \"person\" : {\"external_id\":\" 1001\\t\",\"name\":\"李雷 \"} }\n", minimal},
		"escapes":                   {`{"person":{"external_id":"100\u0031","name":"\u674e雷"}}`, minimal},
		"invisible marks":           {`{"person":{"external_id":"\ufeff1001\u200e","name":"\u202d李\u200b雷\u202c"}}`, minimal},
		"empty attributes": {`{"person":{"external_id":"1001","name":"李雷","attributes":{}}}`,
			Person{ExternalID: "1001", Name: "李雷", Attributes: json.RawMessage(`{}`)}},
		"attributes with a name twice": {`{"person":{"external_id":"1001","name":"李雷","attributes":{"b":1,"a":null,"b":[true,2.50]}}}`,
			Person{ExternalID: "1001", Name: "李雷", Attributes: json.RawMessage(`{"a":null,"b":[true,2.50]}`)}},
		"the longest texts": {`{"person":{"external_id":"` + strings.Repeat("1", 255) + `","name":"` + strings.Repeat("长", 255) + `"}}`,
			Person{ExternalID: strings.Repeat("1", 255), Name: strings.Repeat("长", 255)}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := decodeAnswer([]byte(tc.body))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("person (-want +got):\n%s", diff)
			}
		})
	}

	for body, want := range map[string]string{
		`{"refused":{"user_message":"工号不存在，请联系人事"}}`:        "工号不存在，请联系人事",
		`{"refused":{"user_message":"two\r\n lines\t"}}`:    "two lines",
		`{"person":null,"refused":{"user_message":"no"}}`:   "no",
		`{"refused":{"user_message":"<script>\"'&"}}`:       `<script>"'&`,
		`{"refused":{"user_message":"\u8bf7\ud83d\udc1f"}}`: "请🐟",
	} {
		_, err := decodeAnswer([]byte(body))
		var refused *Refused
		if !errors.As(err, &refused) || refused.UserMessage != want {
			t.Errorf("decodeAnswer(%s) error = %v, want a refusal with %q", body, err, want)
			continue
		}
		if auth.CodeOf(err) != auth.WebhookRefused || strings.Contains(err.Error(), want) {
			t.Errorf("decodeAnswer(%s) error = %q with the code %s, want webhook_refused without the message", body, err, auth.CodeOf(err))
		}
	}

	person := func(members string) string { return `{"person":{"external_id":"1001","name":"李雷"` + members + `}}` }
	const value = "VALUE"
	for name, body := range map[string]string{
		"nothing":                         ``,
		"null":                            `null`,
		"an array":                        `[{"person":{}}]`,
		"HTML":                            `<html>VALUE</html>`,
		"an empty object":                 `{}`,
		"half an object":                  person(``)[:20],
		"two objects":                     person(``) + person(``),
		"data after the object":           person(``) + `VALUE`,
		"a byte that is not UTF-8":        person(`,"phone":"` + "\xff" + `"`),
		"neither person nor refused":      `{"person":null,"refused":null}`,
		"both person and refused":         `{"person":{"external_id":"1001","name":"李雷"},"refused":{"user_message":"VALUE"}}`,
		"a person twice":                  `{"person":{"external_id":"1001","name":"a"},"person":{"external_id":"1002","name":"b"}}`,
		"a null and a person":             `{"person":null,"person":{"external_id":"1002","name":"b"}}`,
		"a person in another case":        `{"Person":{"external_id":"1001","name":"李雷"}}`,
		"another member":                  `{"person":{"external_id":"1001","name":"李雷"},"VALUE":1}`,
		"a person of string":              `{"person":"VALUE"}`,
		"a person of array":               `{"person":["VALUE"]}`,
		"an empty person":                 `{"person":{}}`,
		"no external_id":                  `{"person":{"name":"VALUE"}}`,
		"no name":                         `{"person":{"external_id":"VALUE"}}`,
		"an external_id of number":        `{"person":{"external_id":1001,"name":"VALUE"}}`,
		"an external_id of white space":   `{"person":{"external_id":" \t","name":"VALUE"}}`,
		"an external_id twice":            `{"person":{"external_id":"1","external_id":"2","name":"VALUE"}}`,
		"an external_id that is long":     `{"person":{"external_id":"` + strings.Repeat("1", 256) + `","name":"VALUE"}}`,
		"an external_id with NUL":         `{"person":{"external_id":"VALUE\u0000","name":"VALUE"}}`,
		"a name with a line break":        `{"person":{"external_id":"1001","name":"VALUE\nx"}}`,
		"another member of person":        person(`,"VALUE":"VALUE"`),
		"a phone without its country":     person(`,"phone":"13800001001"`),
		"a phone of number":               person(`,"phone":8613800001001`),
		"an empty phone":                  person(`,"phone":""`),
		"attributes of array":             person(`,"attributes":["VALUE"]`),
		"attributes of string":            person(`,"attributes":"VALUE"`),
		"attributes that are long":        person(`,"attributes":{"a":"` + strings.Repeat("VALUE", 820) + `"}`),
		"attributes that are deep":        person(`,"attributes":` + strings.Repeat(`{"VALUE":`, 10) + `1` + strings.Repeat(`}`, 10)),
		"attributes that are deeper":      person(`,"attributes":{"a":` + strings.Repeat(`[`, 20000) + strings.Repeat(`]`, 20000) + `}`),
		"attributes with NUL":             person(`,"attributes":{"a":"VALUE\u0000"}`),
		"attributes with NUL in a name":   person(`,"attributes":{"VALUE\u0000":1}`),
		"attributes with NUL in an array": person(`,"attributes":{"a":[{"b":"\u0000"}]}`),
		"attributes with a huge number":   person(`,"attributes":{"a":1e999999}`),
		"a refusal without a message":     `{"refused":{}}`,
		"a refusal of string":             `{"refused":"VALUE"}`,
		"a refusal with an empty message": `{"refused":{"user_message":" \n"}}`,
		"a refusal with a long message":   `{"refused":{"user_message":"` + strings.Repeat("长", 256) + `"}}`,
		"a refusal with a bell":           `{"refused":{"user_message":"VALUE\u0007"}}`,
		"a refusal with a bidi mark":      `{"refused":{"user_message":"VALUE\u2066"}}`,
		"a refusal with another member":   `{"refused":{"user_message":"VALUE","code":"VALUE"}}`,
		"a message of number":             `{"refused":{"user_message":7}}`,
	} {
		t.Run("refuses "+name, func(t *testing.T) {
			t.Parallel()
			got, err := decodeAnswer([]byte(body))
			if refused := (*Refused)(nil); err == nil || errors.As(err, &refused) {
				t.Fatalf("decodeAnswer() = %+v, %v, want an error", got, err)
			}
			if diff := cmp.Diff(Person{}, got); diff != "" {
				t.Errorf("decodeAnswer() returns a person with the error: %s", diff)
			}
			if strings.Contains(err.Error(), value) || len(err.Error()) > 200 {
				t.Errorf("decodeAnswer() error = %q, want it short and without the value", err)
			}
		})
	}
}

// FuzzDecodeAnswer checks for all bytes: decodeAnswer does not panic; it returns a person
// or a refusal within the bounds, or an error that quotes nothing; and a person that is
// encoded again decodes to the same person.
func FuzzDecodeAnswer(f *testing.F) {
	for _, seed := range []string{
		`{"person":{"external_id":"1001","name":"李雷","phone":"+8613800001001","attributes":{"department":"R&D","tags":["a",1.5e3,null]}}}`,
		`{"refused":{"user_message":"工号不存在"}}`,
		`{"person":null,"refused":{"user_message":"a\nb"}}`,
		`{"person":{"external_id":"1","name":"\ud800","attributes":{"\ud800":"\ud800"}}}`,
		`{}{}`, `[`, ``,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		p, err := decodeAnswer(body)
		if err != nil {
			if len(err.Error()) > 200 || !utf8.ValidString(err.Error()) {
				t.Fatalf("decodeAnswer() error = %q, want short valid UTF-8", err)
			}
			if refused := (*Refused)(nil); errors.As(err, &refused) {
				if checkText(refused.UserMessage) != nil || strings.ContainsAny(refused.UserMessage, "\r\n\t") {
					t.Fatalf("message = %q, want one line of clean text", refused.UserMessage)
				}
			}
			if diff := cmp.Diff(Person{}, p); diff != "" {
				t.Fatalf("decodeAnswer() returns a person with the error: %s", diff)
			}
			return
		}
		if checkText(p.ExternalID) != nil || checkText(p.Name) != nil || p.Phone != "" && !auth.ValidPhone(p.Phone) || len(p.Attributes) > MaxAttributes {
			t.Fatalf("decodeAnswer() = %+v, want a person within the bounds", p)
		}
		members := map[string]any{"external_id": p.ExternalID, "name": p.Name}
		if p.Phone != "" {
			members["phone"] = p.Phone
		}
		if p.Attributes != nil {
			members["attributes"] = p.Attributes
		}
		again, err := json.Marshal(map[string]any{"person": members})
		if err != nil {
			t.Fatal(err)
		}
		q, err := decodeAnswer(again)
		if err != nil {
			t.Fatalf("decodeAnswer(%s) error = %v", again, err)
		}
		if diff := cmp.Diff(p, q); diff != "" {
			t.Fatalf("(-first +again):\n%s", diff)
		}
	})
}

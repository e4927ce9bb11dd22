package main

import (
	"io"
	"strings"
	"text/template"
)

// tour holds the values of the text that yufu dev prints: commands to paste, in any order
// and any number of times. Each step fetches its own code. The headings are echoed,
// because zsh runs a pasted comment as a command.
type tour struct {
	Public, Admin string
	// Sim is empty when real WeChat is used.
	Sim string
	App string
	// Program is the name by which this program was started.
	Program string
	DataDir string
	// AdminKey is the file with a service key for the admin API.
	AdminKey string
}

var tourText = template.Must(template.New("tour").Funcs(template.FuncMap{
	// quote quotes a path for sh.
	"quote": func(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" },
	"field": func(name string) string { return `sed 's/.*"` + name + `": *"\([^"]*\)".*/\1/'` },
}).Parse(`
Yufu is running. The public API is at {{.Public}}, the admin API, health checks and metrics are at {{.Admin}}.
{{- if .Sim}}
WeChat is simulated at {{.Sim}}; the app is {{.App}}. Paste this into another terminal:

echo '-- 1. Log in: exchange a code, as wx.login returns it, for tokens.'
CODE=$(curl -s -X POST {{.Sim}}/sim/codes -H 'Content-Type: application/json' -d '{"user":"alice"}' | {{field "code"}})
curl -s {{.Public}}/oauth2/token -d grant_type=urn:yufu:grant-type:mini-program-code -d client_id={{.App}} -d code="$CODE"

echo '-- 2. Who am I? The access token names the user, to this service and to any back end.'
CODE=$(curl -s -X POST {{.Sim}}/sim/codes -H 'Content-Type: application/json' -d '{"user":"alice"}' | {{field "code"}})
ACCESS=$(curl -s {{.Public}}/oauth2/token -d grant_type=urn:yufu:grant-type:mini-program-code -d client_id={{.App}} -d code="$CODE" | {{field "access_token"}})
curl -s {{.Public}}/v1/me -H "Authorization: Bearer $ACCESS"

echo '-- 3. Refresh twice, as after a lost answer: within YUFU_REFRESH_GRACE the same refresh token yields the same successor.'
CODE=$(curl -s -X POST {{.Sim}}/sim/codes -H 'Content-Type: application/json' -d '{"user":"alice"}' | {{field "code"}})
REFRESH=$(curl -s {{.Public}}/oauth2/token -d grant_type=urn:yufu:grant-type:mini-program-code -d client_id={{.App}} -d code="$CODE" | {{field "refresh_token"}})
curl -s {{.Public}}/oauth2/token -d grant_type=refresh_token -d client_id={{.App}} -d refresh_token="$REFRESH" | {{field "refresh_token"}}
curl -s {{.Public}}/oauth2/token -d grant_type=refresh_token -d client_id={{.App}} -d refresh_token="$REFRESH" | {{field "refresh_token"}}

echo '-- 4. Log out: the session ends, and its access token is refused at once.'
CODE=$(curl -s -X POST {{.Sim}}/sim/codes -H 'Content-Type: application/json' -d '{"user":"alice"}' | {{field "code"}})
TOKENS=$(curl -s {{.Public}}/oauth2/token -d grant_type=urn:yufu:grant-type:mini-program-code -d client_id={{.App}} -d code="$CODE")
ACCESS=$(printf %s "$TOKENS" | {{field "access_token"}})
REFRESH=$(printf %s "$TOKENS" | {{field "refresh_token"}})
curl -s {{.Public}}/oauth2/revoke -d client_id={{.App}} -d token="$REFRESH"
curl -s {{.Public}}/v1/me -H "Authorization: Bearer $ACCESS"

echo '-- 5. Revoke a stolen token as an admin: its session ends everywhere.'
CODE=$(curl -s -X POST {{.Sim}}/sim/codes -H 'Content-Type: application/json' -d '{"user":"alice"}' | {{field "code"}})
ACCESS=$(curl -s {{.Public}}/oauth2/token -d grant_type=urn:yufu:grant-type:mini-program-code -d client_id={{.App}} -d code="$CODE" | {{field "access_token"}})
ADMIN=$(cat {{quote .AdminKey}})
curl -s {{.Admin}}/admin/v1/revocations -H "Authorization: Bearer $ADMIN" -H 'Content-Type: application/json' -d "{\"token\":\"$ACCESS\",\"reason\":\"the tour\"}"
curl -s {{.Public}}/v1/me -H "Authorization: Bearer $ACCESS"

echo '-- 6. Bind by facts: the user enters those of 李雷, a person that yufu dev has created. The session continues, and a refresh names the person.'
CODE=$(curl -s -X POST {{.Sim}}/sim/codes -H 'Content-Type: application/json' -d '{"user":"alice"}' | {{field "code"}})
TOKENS=$(curl -s {{.Public}}/oauth2/token -d grant_type=urn:yufu:grant-type:mini-program-code -d client_id={{.App}} -d code="$CODE")
ACCESS=$(printf %s "$TOKENS" | {{field "access_token"}})
REFRESH=$(printf %s "$TOKENS" | {{field "refresh_token"}})
curl -s {{.Public}}/v1/binding -H "Authorization: Bearer $ACCESS" -H 'Content-Type: application/json' -d '{"method":"facts","fields":{"employee_no":"1001","name":"李雷"}}'
curl -s {{.Public}}/oauth2/token -d grant_type=refresh_token -d client_id={{.App}} -d refresh_token="$REFRESH"

echo '-- 7. Bind by phone: WeChat confirms the number of 韩梅梅 for another user. Then this user unbinds.'
CODE=$(curl -s -X POST {{.Sim}}/sim/codes -H 'Content-Type: application/json' -d '{"user":"bob"}' | {{field "code"}})
ACCESS=$(curl -s {{.Public}}/oauth2/token -d grant_type=urn:yufu:grant-type:mini-program-code -d client_id={{.App}} -d code="$CODE" | {{field "access_token"}})
PHONE=$(curl -s -X POST {{.Sim}}/sim/phone-codes -H 'Content-Type: application/json' -d '{"user":"bob","phone":"13800001002"}' | {{field "code"}})
BOUND=$(curl -s {{.Public}}/v1/binding -H "Authorization: Bearer $ACCESS" -H 'Content-Type: application/json' -d "{\"method\":\"phone\",\"code\":\"$PHONE\"}")
echo "$BOUND"
ACCESS=$(printf %s "$BOUND" | {{field "access_token"}})
curl -s -X DELETE {{.Public}}/v1/binding -H "Authorization: Bearer $ACCESS"
{{else}}
Real WeChat is used; the app is {{.App}}. In the mini-program, send the code of wx.login to
  POST {{.Public}}/oauth2/token  grant_type=urn:yufu:grant-type:mini-program-code client_id={{.App}} code=CODE
{{end}}
Ctrl-C ends it. Its data is in {{.DataDir}}; delete that folder to start from scratch.
{{- if .Sim}} With real WeChat: {{.Program}} dev --app APPID --secret-file FILE{{end}}

`))

// print writes the text.
func (t tour) print(w io.Writer) error { return tourText.Execute(w, t) }

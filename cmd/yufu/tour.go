package main

import (
	"io"
	"strings"
	"text/template"
)

// tour is what yufu dev prints: commands to paste, in any order, any number of
// times. Each step fetches its own code. The headings are echoed, not comments:
// zsh takes a pasted comment for a command.
type tour struct {
	Public, Admin string
	// Sim is empty when real WeChat is used.
	Sim string
	App string
	// Program is how this program was started.
	Program string
	// DataDir is where the data are.
	DataDir string
	// AdminKey is the file with a service key for the admin API.
	AdminKey string
}

var tourText = template.Must(template.New("tour").Funcs(template.FuncMap{
	// A path as sh reads it back.
	"quote": func(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" },
	"field": func(name string) string { return `sed 's/.*"` + name + `": *"\([^"]*\)".*/\1/'` },
}).Parse(`
Yufu is running. The public API is at {{.Public}}, the admin API, health checks and metrics are at {{.Admin}}.
{{- if .Sim}}
WeChat is simulated at {{.Sim}}; the app is {{.App}}. Paste this into another terminal:

echo '-- 1. Log in: a code, as wx.login gives it, becomes tokens.'
CODE=$(curl -s -X POST {{.Sim}}/sim/codes -H 'Content-Type: application/json' -d '{"user":"alice"}' | {{field "code"}})
curl -s {{.Public}}/oauth2/token -d grant_type=urn:yufu:grant-type:mini-program-code -d client_id={{.App}} -d code="$CODE"

echo '-- 2. Who am I? The access token says it, to this service and to any back end.'
CODE=$(curl -s -X POST {{.Sim}}/sim/codes -H 'Content-Type: application/json' -d '{"user":"alice"}' | {{field "code"}})
ACCESS=$(curl -s {{.Public}}/oauth2/token -d grant_type=urn:yufu:grant-type:mini-program-code -d client_id={{.App}} -d code="$CODE" | {{field "access_token"}})
curl -s {{.Public}}/v1/me -H "Authorization: Bearer $ACCESS"

echo '-- 3. Refresh, and lose the answer: within YUFU_REFRESH_GRACE the same refresh token yields the same successor.'
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

echo '-- 5. Revoke, as an admin who found a stolen token does: its session ends everywhere.'
CODE=$(curl -s -X POST {{.Sim}}/sim/codes -H 'Content-Type: application/json' -d '{"user":"alice"}' | {{field "code"}})
ACCESS=$(curl -s {{.Public}}/oauth2/token -d grant_type=urn:yufu:grant-type:mini-program-code -d client_id={{.App}} -d code="$CODE" | {{field "access_token"}})
ADMIN=$(cat {{quote .AdminKey}})
curl -s {{.Admin}}/admin/v1/revocations -H "Authorization: Bearer $ADMIN" -H 'Content-Type: application/json' -d "{\"token\":\"$ACCESS\",\"reason\":\"the tour\"}"
curl -s {{.Public}}/v1/me -H "Authorization: Bearer $ACCESS"

echo '-- 6. Bind: the user knows the facts of 李雷, whom yufu dev has imported. The session goes on, and a refresh says who it is.'
CODE=$(curl -s -X POST {{.Sim}}/sim/codes -H 'Content-Type: application/json' -d '{"user":"alice"}' | {{field "code"}})
TOKENS=$(curl -s {{.Public}}/oauth2/token -d grant_type=urn:yufu:grant-type:mini-program-code -d client_id={{.App}} -d code="$CODE")
ACCESS=$(printf %s "$TOKENS" | {{field "access_token"}})
REFRESH=$(printf %s "$TOKENS" | {{field "refresh_token"}})
curl -s {{.Public}}/v1/binding -H "Authorization: Bearer $ACCESS" -H 'Content-Type: application/json' -d '{"method":"facts","fields":{"employee_no":"1001","name":"李雷"}}'
curl -s {{.Public}}/oauth2/token -d grant_type=refresh_token -d client_id={{.App}} -d refresh_token="$REFRESH"

echo '-- 7. Bind by phone: another user is 韩梅梅, because WeChat vouches for her number. Then she unbinds.'
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
Ctrl-C ends it. All it keeps is in {{.DataDir}}; delete that to start from nothing.
{{- if .Sim}} With real WeChat: {{.Program}} dev --app APPID --secret-file FILE{{end}}

`))

// print writes the tour.
func (t tour) print(w io.Writer) error { return tourText.Execute(w, t) }

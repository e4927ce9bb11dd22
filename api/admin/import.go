package admin

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"strconv"

	"github.com/yufu-auth/yufu/api/web"
	"github.com/yufu-auth/yufu/pkg/adminclient"
	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/person"
)

// Bounds of an import.
const (
	maxImportLines = 1000
	maxImportBody  = 4 << 20
)

// readLines reads the body of an import.
func readLines(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	mediaType, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || mediaType != "application/x-ndjson" {
		return nil, &auth.Error{Code: auth.UnsupportedMediaType, Description: "Send the body as application/x-ndjson, one person per line."}
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxImportBody))
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return nil, &auth.Error{Code: auth.BodyTooLarge, Description: "An import must have at most 4 MiB; send the lines in several requests."}
	}
	if err != nil {
		return nil, auth.Invalid("The body ended early.")
	}
	return body, nil
}

// personRow is a line of an import.
type personRow struct {
	ExternalID *string            `json:"external_id"`
	Name       *string            `json:"name"`
	Phone      *string            `json:"phone"`
	Facts      map[string]*string `json:"facts"`
	Attributes json.RawMessage    `json:"attributes"`
}

func (a *API) importPersons(w http.ResponseWriter, r *http.Request) error {
	body, err := readLines(w, r)
	if err != nil {
		return err
	}
	dryRun, err := queryValue(r, "dry_run", strconv.ParseBool)
	if err != nil {
		return err
	}
	var (
		rows  []person.ImportRow
		lines []int
	)
	line := 0
	for text := range bytes.Lines(body) {
		line++
		text = bytes.TrimSpace(text)
		if len(text) == 0 {
			continue
		}
		if len(rows) == maxImportLines {
			return auth.Invalid("An import must have at most 1000 lines; send the rest in another request.")
		}
		var (
			p   personRow
			row person.ImportRow
		)
		if row.Err = web.ParseJSON(text, &p); row.Err == nil {
			row.Form = person.Form{ExternalID: p.ExternalID, Name: p.Name, Phone: p.Phone, Facts: p.Facts, Attributes: p.Attributes}
		}
		rows, lines = append(rows, row), append(lines, line)
	}
	done, err := a.c.Persons.Import(r.Context(), rows, value(dryRun), caller(r, queryText(r, "reason")))
	if err != nil {
		return err
	}
	answer := adminclient.ImportResult{Errors: []adminclient.ImportError{}}
	for i, d := range done {
		switch d.Outcome {
		case person.Created:
			answer.Created++
		case person.Updated:
			answer.Updated++
		case person.Unchanged:
			answer.Unchanged++
		default:
			answer.Refused++
			code := auth.CodeOf(d.Err)
			if code == auth.Internal {
				return d.Err
			}
			var e *auth.Error
			text := web.Responses[code].Text
			if errors.As(d.Err, &e) {
				text = cmp.Or(e.Description, text)
			}
			answer.Errors = append(answer.Errors, adminclient.ImportError{Line: lines[i], Code: adminclient.Code(code), Detail: text})
		}
	}
	web.EventOf(r.Context()).Add(slog.Int("created", answer.Created), slog.Int("updated", answer.Updated),
		slog.Int("unchanged", answer.Unchanged), slog.Int("refused", answer.Refused))
	return web.SecretJSON(w, http.StatusOK, answer)
}

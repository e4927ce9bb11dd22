package webhook_test

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
)

// hangsUp is a back end that ends its answer properly when the client hangs up, as if it
// were complete. This happens sometimes over TLS.
type hangsUp struct{ text string }

func (h hangsUp) RoundTrip(r *http.Request) (*http.Response, error) {
	end := readFunc(func([]byte) (int, error) { <-r.Context().Done(); return 0, io.EOF })
	return &http.Response{
		StatusCode: http.StatusOK, Header: http.Header{}, Request: r,
		Body: io.NopCloser(io.MultiReader(strings.NewReader(h.text), end)),
	}, nil
}

type readFunc func([]byte) (int, error)

func (f readFunc) Read(p []byte) (int, error) { return f(p) }

// echo answers with the request in the format.
func echo(format string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		quoted, _ := json.Marshal(string(body) + r.RequestURI)
		answer(http.StatusOK, strings.ReplaceAll(format, "%s", strings.Trim(string(quoted), `"`)))(w, r)
	}
}

// cut writes raw bytes and hangs up.
func cut(raw string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			panic(err)
		}
		_, _ = io.WriteString(conn, raw)
		_ = conn.Close()
	}
}

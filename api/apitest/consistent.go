package apitest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
)

// consistent checks the rules for errors that the document states only in prose: the
// members agree with each other and with the headers of the answer.
func consistent(resp *http.Response, body []byte) error {
	if resp.StatusCode < http.StatusBadRequest || len(body) == 0 || !strings.Contains(resp.Header.Get("Content-Type"), "json") {
		return nil
	}
	var e struct {
		RequestID *string `json:"request_id"`
		Type      *string `json:"type"`
		Status    any     `json:"status"`
		Code      *string `json:"code"`
	}
	if err := json.Unmarshal(body, &e); err != nil {
		return err
	}
	if e.RequestID == nil {
		return nil // readyz answers a state, not an error
	}
	if id := resp.Header.Get("X-Request-Id"); *e.RequestID != id {
		return fmt.Errorf("request_id %q differs from the X-Request-Id header %q", *e.RequestID, id)
	}
	if e.Type == nil {
		return nil // errors of RFC 6749 have no type and status
	}
	if e.Status != float64(resp.StatusCode) {
		return fmt.Errorf("the member status %v differs from the HTTP status %d", e.Status, resp.StatusCode)
	}
	if e.Code == nil || !strings.HasSuffix(*e.Type, ":"+*e.Code) {
		return fmt.Errorf("the type %q does not end in the code", *e.Type)
	}
	return nil
}

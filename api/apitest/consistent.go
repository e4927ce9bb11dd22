package apitest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
)

// consistent holds an error against what the document says in words alone: that
// its members agree with each other and with the head of the answer.
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
		return nil // no error, but a state: readyz
	}
	if id := resp.Header.Get("X-Request-Id"); *e.RequestID != id {
		return fmt.Errorf("request_id is %q, and the X-Request-Id header %q", *e.RequestID, id)
	}
	if e.Type == nil {
		return nil // RFC 6749's form has no more
	}
	if e.Status != float64(resp.StatusCode) {
		return fmt.Errorf("the member status is %v, and the status %d", e.Status, resp.StatusCode)
	}
	if e.Code == nil || !strings.HasSuffix(*e.Type, ":"+*e.Code) {
		return fmt.Errorf("the type %q does not end in the code", *e.Type)
	}
	return nil
}

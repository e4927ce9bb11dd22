package web

import "net/http"

// Status returns the HTTP status of the answer for an error.
func Status(err error) int {
	if r, ok := Responses[asError(err).Code]; ok {
		return r.Status
	}
	return http.StatusInternalServerError
}

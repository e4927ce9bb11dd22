package main

import (
	"net/http"
	"net/http/httptest"
	"testing"
)

func TestLoopbackOnly(t *testing.T) {
	t.Parallel()
	h := loopbackOnly(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	ask := func(method, host string, header ...string) int {
		r := httptest.NewRequestWithContext(t.Context(), method, "/oauth2/token", http.NoBody)
		r.Host = host
		for i := 0; i < len(header); i += 2 {
			r.Header.Set(header[i], header[i+1])
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w.Code
	}
	t.Run("answers to names and addresses of this machine", func(t *testing.T) {
		t.Parallel()
		for host, want := range map[string]int{
			"127.0.0.1:8080": 200, "127.0.0.1": 200, "127.1.2.3:1": 200, "localhost:8080": 200, "LocalHost": 200, "yufu.localhost:8080": 200,
			"[::1]:8080": 200, "[::1]": 200,
			"evil.example.com": 421, "evil.example.com:8080": 421, "localhost.example.com": 421, "127.0.0.1.example.com:8080": 421, "127.0.0.1.nip.io": 421,
			"notlocalhost": 421, "192.168.1.2:8080": 421, "0.0.0.0:8080": 421, "[::]": 421, "": 421, "yufu": 421,
		} {
			for _, method := range []string{http.MethodGet, http.MethodPost} {
				if got := ask(method, host); got != want {
					t.Errorf("%s with Host %q: status %d, want %d", method, host, got, want)
				}
			}
		}
	})
	t.Run("refuses requests that a page of another site sends", func(t *testing.T) {
		t.Parallel()
		const host = "127.0.0.1:8080"
		for _, tc := range []struct {
			name   string
			header []string
			want   int
		}{
			{"curl and the library in Node", nil, 200},
			{"the same origin", []string{"Origin", "http://127.0.0.1:8080", "Sec-Fetch-Site", "same-origin"}, 200},
			{"a page", []string{"Origin", "https://evil.example.com", "Sec-Fetch-Site", "cross-site"}, 403},
			{"a page in an old browser", []string{"Origin", "https://evil.example.com"}, 403},
			{"a page without an origin", []string{"Origin", "null"}, 403},
			{"a page at another port", []string{"Origin", "http://127.0.0.1:3000", "Sec-Fetch-Site", "same-site"}, 403},
			{"a page with a name like WeChat's", []string{"Origin", "https://servicewechat.com.evil.example", "Referer", "https://servicewechat.com.evil.example/"}, 403},
			{"WeChat for Windows", []string{"Sec-Fetch-Site", "cross-site", "Referer", "https://servicewechat.com/wx0123456789abcdef/devtools/page-frame.html"}, 200},
		} {
			for _, method := range []string{http.MethodPost, http.MethodDelete, http.MethodPatch} {
				if got := ask(method, host, tc.header...); got != tc.want {
					t.Errorf("%s by %s: status %d, want %d", method, tc.name, got, tc.want)
				}
			}
		}
	})
}

package telemetry

import (
	"bytes"
	"errors"
	"log/slog"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/yufu-auth/yufu/pkg/auth"
)

func TestLogger(t *testing.T) {
	t.Parallel()
	secrets := []string{
		"yfr_" + strings.Repeat("Ab-_", 15),
		"yfk_ab12_" + strings.Repeat("z", 43),
		"eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJ4In0.c2lnbmF0dXJl",
	}
	for _, format := range []string{"json", "text"} {
		t.Run(format+" blanks what looks like a secret", func(t *testing.T) {
			t.Parallel()
			var out bytes.Buffer
			log, err := NewLogger(&out, format, slog.LevelInfo)
			if err != nil {
				t.Fatal(err)
			}
			for _, s := range secrets {
				log.Info("said "+s, "text", "a "+s+" b", "cause", errors.New("failed with "+s), "group", slog.GroupValue(slog.String("x", s)))
			}
			log.Info("x", "url", "https://api.example.com/sns/jscode2session?appid=wx1&secret=hunter2&js_code=hunter2&grant_type=x")
			log.Info("x", "dsn", "cannot reach postgres://yufu:hunter2@db.example.com/yufu")
			log.Info("x", "json", `{"session_key": "hunter2"}`, "typed", auth.Secret("hunter2"), "raw", []byte("hunter2"))
			text := out.String()
			for _, s := range append(secrets, "hunter2", "aHVudGVyMg") {
				if strings.Contains(text, s) {
					t.Errorf("%q is in the log:\n%s", s, text)
				}
			}
			for _, s := range []string{"wx1", "db.example.com", "a [redacted] b"} {
				if !strings.Contains(text, s) {
					t.Errorf("%q is missing in the log:\n%s", s, text)
				}
			}
		})
	}
	t.Run("a wrong format or level is named", func(t *testing.T) {
		t.Parallel()
		if _, err := NewLogger(nil, "xml", slog.LevelInfo); err == nil || !strings.Contains(err.Error(), "xml") {
			t.Errorf("NewLogger() error = %v, want it to name the format", err)
		}
		if _, err := ParseLevel("loud"); err == nil || !strings.Contains(err.Error(), "loud") {
			t.Errorf("ParseLevel() error = %v, want it to name the level", err)
		}
	})
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	m := NewMetrics("v1.2.3")
	m.ObserveRequest("/v1/me", "GET", 401, "token_missing", time.Millisecond)
	m.ObserveGrant("refresh", "replayed")
	m.ObservePlatformCall("wechat", "busy", time.Second)
	m.Gauge("yufu_x", "X.", map[string]string{"use": "a"}, func() float64 { return 1 })
	m.Gauge("yufu_x", "X.", map[string]string{"use": "b"}, func() float64 { return 2 })
	m.Counter("yufu_y_total", "Y.", nil, func() float64 { return 3 })
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	for _, want := range []string{
		`yufu_build_info{go_version="` + runtime.Version() + `",version="v1.2.3"} 1`,
		`yufu_http_requests_total{error_code="token_missing",method="GET",route="/v1/me",status="401"} 1`,
		`yufu_http_request_duration_seconds_count{method="GET",route="/v1/me"} 1`,
		`yufu_grants_total{grant="refresh",outcome="replayed"} 1`,
		`yufu_platform_calls_total{class="busy",platform="wechat"} 1`,
		`yufu_platform_call_duration_seconds_sum{platform="wechat"} 1`,
		`yufu_x{use="a"} 1`,
		`yufu_x{use="b"} 2`,
		`yufu_y_total 3`,
		`go_goroutines`,
	} {
		if !strings.Contains(w.Body.String(), want) {
			t.Errorf("%s is missing", want)
		}
	}
}

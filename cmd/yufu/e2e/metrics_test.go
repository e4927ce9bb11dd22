package e2e

import (
	"crypto/rand"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/yufu-auth/yufu/db/pgtest"
	"github.com/yufu-auth/yufu/pkg/platform/wechatsim"
)

// samples are the metrics by series: name{label="value",…}.
type samples map[string]float64

var sampleLine = regexp.MustCompile(`^([a-zA-Z_:][a-zA-Z0-9_:]*(?:\{.*\})?) (\S+)$`)

// metrics returns the metrics of the service.
func (s *service) metrics() samples {
	s.t.Helper()
	a := s.must(s.get(s.admin+"/metrics", "")).want(s, 200, "")
	all := samples{}
	for line := range strings.Lines(a.Body) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "#") || line == "" {
			continue
		}
		m := sampleLine.FindStringSubmatch(line)
		if m == nil {
			s.t.Fatalf("/metrics has the malformed line %q", line)
		}
		value, err := strconv.ParseFloat(m[2], 64)
		if err != nil {
			s.t.Fatalf("a line of /metrics is %q: %v", line, err)
		}
		all[m[1]] = value
	}
	return all
}

var labelPair = regexp.MustCompile(`([a-z_]+)="((?:[^"\\]|\\.)*)"`)

// labels returns the values of each label of Yufu's metrics.
func (all samples) labels() map[string][]string {
	sets := map[string]map[string]bool{}
	for series := range all {
		if !strings.HasPrefix(series, "yufu_") {
			continue
		}
		for _, pair := range labelPair.FindAllStringSubmatch(series, -1) {
			if sets[pair[1]] == nil {
				sets[pair[1]] = map[string]bool{}
			}
			sets[pair[1]][pair[2]] = true
		}
	}
	values := map[string][]string{}
	for name, set := range sets {
		values[name] = slices.Sorted(maps.Keys(set))
	}
	return values
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	d := deploy(h, pgtest.Empty(t))
	d.sim = h.simulator(wechatsim.Config{UnionID: true})
	d.env = d.env.with(settings{
		"YUFU_UNSAFE_WECHAT_URL": d.sim.base,
		"YUFU_TRUSTED_PROXIES":   "127.0.0.1",
		"YUFU_REFRESH_GRACE":     "300ms",
	})
	_, s := d.serve("yufu", "--migrate")
	d.addApp()

	// The script. The counters must show what it does with each token.
	alice := s.logIn("alice")
	me := s.me(alice.Doc.AccessToken)
	replayed, late := 0, 0
	// On a machine that stalls, even the first replay may be too late. Then the script
	// starts another session until both kinds have happened.
	for login := alice; replayed == 0; late++ {
		if late > 0 {
			login = s.logIn("alice")
		}
		first := login.Doc.RefreshToken
		rotated := s.refresh(first).want(s, 200, "")
		s.eventually("a replay is too late", func() bool {
			a := s.refresh(first)
			if a.Status == http.StatusOK {
				replayed++
				return false
			}
			a.want(s, 400, "refresh_reused")
			return true
		})
		s.refresh(rotated.Doc.RefreshToken).want(s, 400, "session_revoked")
	}
	bob := s.logIn("bob")
	second := s.refresh(bob.Doc.RefreshToken).want(s, 200, "")
	s.refresh(second.Doc.RefreshToken).want(s, 200, "")
	s.refresh(bob.Doc.RefreshToken).want(s, 400, "refresh_reused")
	s.refresh("yfr_nonsense").want(s, 400, "refresh_invalid")
	s.logOut(bob.Doc.RefreshToken)
	s.me("nonsense").want(s, 401, "token_invalid")
	faults := map[string]map[string]any{
		"busy": {"errcode": -1}, "code_invalid": {"errcode": 40029}, "code_used": {"errcode": 40163},
		"user_blocked": {"errcode": 40226}, "quota": {"errcode": 45011}, "misconfigured": {"errcode": 40013},
		"unknown": {"errcode": 98765}, "malformed": {"malformed": true}, "http_status": {"status": 502}, "transport": {"drop": true},
	}
	for i, class := range slices.Sorted(maps.Keys(faults)) {
		d.sim.fault(faults[class])
		s.must(s.from("192.0.2." + strconv.Itoa(i)).tryExchange("carol"))
		s.from("198.51.100." + strconv.Itoa(i)).logIn("carol")
	}

	t.Run("the metrics count all events", func(t *testing.T) {
		got := s.in(t).metrics()
		logIns := float64(late + 1 + len(faults)) // alice's, bob's, carol's
		rotated := float64(late + 2)
		want := samples{
			`yufu_grants_total{grant="code",outcome="started"}`:                                                      logIns,
			`yufu_grants_total{grant="code",outcome="platform_quota"}`:                                               1,
			`yufu_grants_total{grant="code",outcome="code_used"}`:                                                    1,
			`yufu_grants_total{grant="refresh",outcome="rotated"}`:                                                   rotated,
			`yufu_grants_total{grant="refresh",outcome="replayed"}`:                                                  float64(replayed),
			`yufu_grants_total{grant="refresh",outcome="replay_late"}`:                                               float64(late),
			`yufu_grants_total{grant="refresh",outcome="reuse"}`:                                                     1,
			`yufu_grants_total{grant="refresh",outcome="session_revoked"}`:                                           float64(late),
			`yufu_grants_total{grant="refresh",outcome="refresh_invalid"}`:                                           1,
			`yufu_platform_calls_total{class="ok",platform="wechat"}`:                                                logIns,
			`yufu_platform_call_duration_seconds_count{platform="wechat"}`:                                           logIns + float64(len(faults)),
			`yufu_http_requests_total{error_code="",method="POST",route="/oauth2/token",status="200"}`:               logIns + rotated + float64(replayed),
			`yufu_http_requests_total{error_code="refresh_reused",method="POST",route="/oauth2/token",status="400"}`: float64(late + 1),
			`yufu_http_requests_total{error_code="",method="POST",route="/oauth2/revoke",status="200"}`:              1,
			`yufu_http_requests_total{error_code="",method="GET",route="/v1/me",status="200"}`:                       1,
			`yufu_http_requests_total{error_code="token_invalid",method="GET",route="/v1/me",status="401"}`:          1,
			`yufu_http_request_duration_seconds_count{method="GET",route="/v1/me"}`:                                  2,
			`yufu_binding_facts_slowed_total`:                                                                        0,
			`yufu_db_connections_max`:                                                                                20,
		}
		for class := range faults {
			want[`yufu_platform_calls_total{class="`+class+`",platform="wechat"}`] = 1
		}
		for series, n := range want {
			if value, there := got[series]; !there || value != n {
				t.Errorf("%s is %v (present: %v), want %v", series, value, there, n)
			}
		}
		for _, series := range []string{
			`yufu_db_connections{state="idle"}`, `yufu_db_acquires_total`, `yufu_platform_call_duration_seconds_sum{platform="wechat"}`,
			`yufu_current_key_age_seconds{alg="ES256",use="access"}`, `yufu_current_key_age_seconds{alg="HS256",use="refresh"}`, `process_resident_memory_bytes`,
		} {
			if got[series] <= 0 {
				t.Errorf("%s is %v, want another value", series, got[series])
			}
		}
		for _, series := range []string{
			`yufu_db_connections{state="acquired"}`, `yufu_db_connections{state="constructing"}`,
			`yufu_db_acquires_canceled_total`, `yufu_db_acquire_duration_seconds_total`,
		} {
			if _, there := got[series]; !there {
				t.Errorf("%s is missing", series)
			}
		}
		info := got.labels()
		if len(info["version"]) != 1 || info["version"][0] == "" || len(info["go_version"]) != 1 || !strings.HasPrefix(info["go_version"][0], "go") {
			t.Errorf("the build info is %q, %q", info["version"], info["go_version"])
		}
	})

	t.Run("the metrics contain no user and no address", func(t *testing.T) {
		s := s.in(t)
		text := s.must(s.get(s.admin+"/metrics", "")).Body
		for what, id := range map[string]string{
			"a uuid": alice.Doc.UUID, "a session": me.Doc.Session.ID, "an appid": testApp,
			"an openid": wechatsim.OpenID(testApp, "alice"), "a unionid": wechatsim.UnionID("alice"), "a client's address": "192.0.2.",
		} {
			if id == "" || strings.Contains(text, id) {
				t.Errorf("the metrics contain %s (%q)", what, id)
			}
		}
	})

	t.Run("the metrics do not grow with the requests of clients", func(t *testing.T) {
		s := s.in(t)
		flood := func() int {
			for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND", rand.Text(), strings.ToLower(rand.Text())} {
				for _, path := range []string{
					"/" + rand.Text(), "/oauth2/" + rand.Text(), "/v1/me/" + rand.Text(), "/v1/me?x=" + rand.Text(), "/oauth2/token?x=" + rand.Text(),
					"/.well-known/" + rand.Text(), "/.well-known/jwks.json?" + rand.Text(), "/oauth2/revoke", "/" + alice.Doc.UUID, "/%00" + rand.Text(),
				} {
					req, err := http.NewRequest(method, s.base+path, nil)
					if err != nil {
						t.Fatal(err)
					}
					req.Header.Set("X-Forwarded-For", rand.Text())
					s.must(s.do(req))
				}
			}
			for range 20 {
				s.must(s.post(s.base+"/oauth2/token", "grant_type", rand.Text(), "client_id", rand.Text()))
				s.must(s.post(s.base+"/oauth2/token", "grant_type", codeGrant, "client_id", rand.Text(), "code", rand.Text()))
				s.must(s.post(s.base+"/oauth2/token", "grant_type", "refresh_token", "client_id", rand.Text(), "refresh_token", "yfr_"+rand.Text()))
			}
			return len(s.metrics())
		}
		after := flood()
		for range 3 {
			if again := flood(); again != after {
				t.Errorf("%d series after a flood, %d after another, want the same number", after, again)
			}
		}
		labels := s.metrics().labels()
		want := []string{
			"/.well-known/jwks.json", "/oauth2/revoke", "/oauth2/token", "/v1/me", "unmatched",
		}
		if !slices.Equal(labels["route"], want) {
			t.Errorf("the routes are %q, want %q", labels["route"], want)
		}
		want = []string{"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "other"}
		if !slices.Equal(labels["method"], want) {
			t.Errorf("the methods are %q, want %q", labels["method"], want)
		}
		known := []string{"alg", "class", "error_code", "go_version", "grant", "le", "method", "outcome", "platform", "route", "state", "status", "use", "version"}
		if got := slices.Sorted(maps.Keys(labels)); !slices.Equal(got, known) {
			t.Errorf("the labels are %q, want %q", got, known)
		}
		snake := regexp.MustCompile(`^[a-z_]*$`)
		for _, name := range []string{"class", "error_code", "grant", "outcome", "platform", "state", "use"} {
			for _, value := range labels[name] {
				if !snake.MatchString(value) {
					t.Errorf("the label %s has the value %q", name, value)
				}
			}
		}
	})
}

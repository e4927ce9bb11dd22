package postgres_test

import (
	"net/url"
	"strings"
	"testing"

	"github.com/yufu-auth/yufu/db/pgtest"
	"github.com/yufu-auth/yufu/pkg/netreason/netreasontest"
)

func TestReconnect(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	u, err := url.Parse(b.dsn)
	if err != nil {
		t.Fatal(err)
	}
	at := func(p *pgtest.Proxy) string {
		to := *u
		to.Host = p.Addr()
		return to.String()
	}
	before, after := pgtest.NewProxy(t, u.Host), pgtest.NewProxy(t, u.Host)
	s := openStore(t, at(before))
	if err := s.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	foreign := newBed(t)
	foreign.exec(foreign.raw, `update deployment set id = gen_random_uuid()`)
	silent := *u
	silent.Host = netreasontest.UnusedAddr(t)
	for dsn, want := range map[string]string{
		silent.String():                  "connection refused",
		"postgres://[":                   "cannot be parsed",
		foreign.dsn:                      "another deployment",
		b.dsn + "&search_path=elsewhere": "search_path",
	} {
		if err := s.Reconnect(t.Context(), dsn); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Reconnect(%q) error = %v, want %q", dsn, err, want)
		}
		if err := s.Ping(t.Context()); err != nil || after.Connections() != 0 {
			t.Errorf("after a failed Reconnect: error = %v", err)
		}
	}
	if err := s.Reconnect(t.Context(), at(after)); err != nil {
		t.Fatal(err)
	}
	until(t, "all connections lead to the new address", func() bool {
		return s.Ping(t.Context()) == nil && before.Connections() == 0 && after.Connections() > 0
	})
	if _, err := s.Cutoffs(t.Context(), 0, 10); err != nil || before.Connections() != 0 {
		t.Errorf("the follower's query: error = %v, %d connections to the old address", err, before.Connections())
	}
}

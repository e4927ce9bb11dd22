package web_test

import (
	"log/slog"
	"testing"

	"github.com/yufu-auth/yufu/api/web"
)

func TestEventAdd(t *testing.T) {
	t.Parallel()
	var e web.Event
	e.Add(slog.String("service_key", "a"), slog.String("app", "wx1"))
	for range 1000 { // as in a stream that lasts for days
		e.Add(slog.String("service_key", "b"))
	}
	if len(e.Attrs) != 2 || e.Attrs[0].Value.String() != "b" || e.Attrs[1].Value.String() != "wx1" {
		t.Errorf("attributes = %v, want one service_key and one app", e.Attrs)
	}
}

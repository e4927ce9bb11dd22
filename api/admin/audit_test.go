package admin_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/pkg/adminclient"
	"github.com/yufu-auth/yufu/pkg/auth"
)

func TestAudit(t *testing.T) {
	t.Parallel()
	for kind, open := range stores {
		t.Run(kind+": what was done to persons is listed by each filter, page by page", func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, open)
			key := w.key(t, "admin")
			c := w.clientOf(t, key)
			one, two := w.person(t, c, "1"), w.person(t, c, "2")
			w.Clock.Advance(time.Hour)
			disabled, err := c.DisablePerson(t.Context(), one.ID, "离职")
			succeed(t, disabled, err)
			now := w.Clock.Now().Truncate(time.Microsecond)

			actor := auth.ActorServiceKey(key.ID)
			got := collect(t, c.Audit(t.Context(), adminclient.AuditQuery{Person: &one.ID, From: now}))
			if len(got) != 1 || got[0].ID == 0 || got[0].RequestID == nil {
				t.Fatalf("events = %+v, want one with an id and a request id", got)
			}
			want := []adminclient.AuditEvent{{
				ID: got[0].ID, At: now, Action: string(auth.AuditPersonDisabled), Actor: actor, Person: &one.ID, Reason: "离职",
				RequestID: got[0].RequestID, Detail: map[string]any{"identities": 0.0, "sessions": 0.0},
			}}
			if d := cmp.Diff(want, got); d != "" {
				t.Errorf("event (-want +got):\n%s", d)
			}
			other := "service_key:other"
			for name, q := range map[string]struct {
				adminclient.AuditQuery
				want int
			}{
				"actor":         {adminclient.AuditQuery{Actor: &actor}, 3},
				"another actor": {adminclient.AuditQuery{Actor: &other}, 0},
				"action":        {adminclient.AuditQuery{Action: ptr(string(auth.AuditPersonCreated))}, 2},
				"person":        {adminclient.AuditQuery{Person: &two.ID}, 1},
				"request":       {adminclient.AuditQuery{RequestID: got[0].RequestID}, 1},
				"until":         {adminclient.AuditQuery{Actor: &actor, Until: now}, 2},
				"pages of one":  {adminclient.AuditQuery{Actor: &actor, Page: adminclient.Page{Limit: 1}}, 3},
			} {
				if found := collect(t, c.Audit(t.Context(), q.AuditQuery)); len(found) != q.want {
					t.Errorf("%s: %d events, want %d", name, len(found), q.want)
				}
			}
		})
	}
	t.Run("other keys and malformed queries are refused", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, stores["sqlite"])
		w.do(t, http.MethodGet, "/admin/v1/audit", w.key(t, "support openid service persons").Key().Reveal(), "", "").want(t, 403, auth.InsufficientScope)
		key := w.key(t, "audit").Key().Reveal()
		for _, query := range []string{
			"from=yesterday", "until=1", "until=0001-01-01T00:00:00Z", "person=" + uuid.Nil.String(), "uuid=x", "actor=", "action=%FF", "cursor=1", "cursor=1-2x", "limit=0", "user=1",
		} {
			w.do(t, http.MethodGet, "/admin/v1/audit?"+query, key, "", "").want(t, 400, auth.InvalidRequest)
		}
	})
}

package postgres_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/db/postgres"
	"github.com/yufu-auth/yufu/pkg/audit"
)

// TestAuditQueriesUseIndexes checks that the cost of reading the audit log does not grow with
// the log: each filter reads its index backwards, without a sort.
func TestAuditQueriesUseIndexes(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.exec(b.raw, `
insert into audit (at, action, actor, appid, identity_uuid, session_id, person_id, request_id)
select now() - n * interval '1 second', 'action ' || n % 50, 'actor ' || n % 50, 'wx' || n % 50, lpad((n % 50)::text, 32, '0')::uuid,
  lpad((n % 50)::text, 32, '0')::uuid, lpad((n % 50)::text, 32, '0')::uuid, 'request ' || n % 50
from generate_series(1, 20000) n`)
	b.exec(b.raw, `analyze audit`)
	now, id := time.Now(), uuid.MustParse("00000000-0000-0000-0000-000000000007")
	for index, q := range map[string]audit.Query{
		"audit_at":            {},
		"audit_action":        {Action: "action 7"},
		"audit_actor":         {Actor: "actor 7"},
		"audit_appid":         {AppID: "wx7"},
		"audit_identity_uuid": {Identity: id},
		"audit_session_id":    {Session: id},
		"audit_person_id":     {Person: id},
		"audit_request_id":    {RequestID: "request 7"},
	} {
		for _, bounded := range []bool{false, true} {
			q.Limit = 10
			if bounded {
				q.From, q.Until, q.Before = now.Add(-2*time.Hour), now.Add(-time.Hour), audit.Position{At: now.Add(-90 * time.Minute), ID: 5}
			}
			sql, args := postgres.AuditSQL(&q)
			var plan string
			if err := b.raw.QueryRowContext(t.Context(), `explain (format json) `+sql, args...).Scan(&plan); err != nil {
				t.Fatalf("%v\n%s", err, sql)
			}
			if !strings.Contains(plan, `"Index Name": "`+index+`"`) || strings.Contains(plan, `"Sort"`) || strings.Contains(plan, "Seq Scan") {
				t.Errorf("bounded %v: the plan does not read %s backwards\n%s", bounded, index, plan)
			}
		}
	}
}

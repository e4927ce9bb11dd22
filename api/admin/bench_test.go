package admin_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// BenchmarkImport sends batches of persons, as yufu person import does: new ones,
// and the same again.
func BenchmarkImport(b *testing.B) {
	const rows = 500
	for kind, open := range stores {
		for _, same := range []bool{false, true} {
			b.Run(fmt.Sprintf("%s/same=%t", kind, same), func(b *testing.B) {
				w := newWorld(b, open)
				key := w.key(b, "admin").Key().Reveal()
				n := 0
				for b.Loop() {
					var body strings.Builder
					for i := range rows {
						if !same {
							i += n * rows
						}
						fmt.Fprintf(&body, `{"external_id":"E%07d","name":"员工%d","phone":"+86138%08d","facts":{"employee_no":"%07d","name":"员工%d"},"attributes":{"dept":"销售"}}`+"\n", i, i, i, i, i)
					}
					if a := w.do(b, http.MethodPost, "/admin/v1/persons/import", key, "application/x-ndjson", body.String()); a.Status != http.StatusOK {
						b.Fatalf("POST /admin/v1/persons/import: status and body = %d %s, want 200", a.Status, a.Body)
					}
					n++
				}
				b.ReportMetric(float64(n*rows)/b.Elapsed().Seconds(), "rows/s")
			})
		}
	}
}

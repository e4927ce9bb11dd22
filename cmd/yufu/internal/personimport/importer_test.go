package personimport

import (
	"bytes"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// file is a source of so many rows; some are wrong.
type file struct {
	n     int
	wrong map[int]bool
	read  atomic.Int64
	err   error
}

func (f *file) Next() (Row, error) {
	i := int(f.read.Add(1))
	if i > f.n {
		if f.err != nil {
			return Row{}, f.err
		}
		return Row{}, io.EOF
	}
	row := Row{Line: i, End: int64(i * 10), JSON: fmt.Appendf(nil, `{"external_id":"E%d"}`, i)}
	if f.wrong[i] {
		row.JSON, row.Err = nil, errors.New("wrong")
	}
	return row, nil
}

// recorder is a report and a progress that remember.
type recorder struct {
	refused []string
	done    []int
	bytes   int64
	slept   []time.Duration
}

func (m *recorder) Refused(line int, externalID, code, detail string) error {
	m.refused = append(m.refused, fmt.Sprintf("%d %s %s %s", line, externalID, code, detail))
	return nil
}

func (m *recorder) Done(rows int, bytes int64)   { m.done, m.bytes = append(m.done, rows), bytes }
func (m *recorder) Waiting(error, time.Duration) {}
func (m *recorder) sleep(ctx context.Context, d time.Duration) error {
	m.slept = append(m.slept, d)
	return ctx.Err()
}

func (m *recorder) importer(send Sender) *Importer {
	return &Importer{Send: send, Progress: m, Report: m, Sleep: m.sleep}
}

// taken answers that all rows of a batch were created but those named.
func taken(batch []byte, refuse ...string) Result {
	var r Result
	for i, line := range strings.Split(strings.TrimSpace(string(batch)), "\n") {
		refused := false
		for _, id := range refuse {
			refused = refused || line == `{"external_id":"`+id+`"}`
		}
		if refused {
			r.Refused = append(r.Refused, Refusal{i + 1, "person_conflict", "taken"})
		} else {
			r.Created++
		}
	}
	return r
}

func TestImport(t *testing.T) {
	t.Parallel()
	t.Run("every_row_is_answered_and_the_wrong_ones_are_reported_by_their_lines", func(t *testing.T) {
		t.Parallel()
		var m recorder
		src := &file{n: 2*MaxRows + 7, wrong: map[int]bool{2: true, MaxRows + 1: true}}
		sum, err := m.importer(func(_ context.Context, b []byte) (Result, error) {
			return taken(b, "E3", "E1000", "E1001"), nil
		}).Run(t.Context(), src, 1)
		want := Summary{Created: src.n - 5, Refused: 5, Next: src.n + 1}
		if err != nil || sum != want {
			t.Errorf("%+v, %v; want %+v", sum, err, want)
		}
		if d := cmp.Diff([]string{
			"2  invalid_row wrong", "3 E3 person_conflict taken", "501  invalid_row wrong", "1000 E1000 person_conflict taken", "1001 E1001 person_conflict taken",
		}, m.refused); d != "" {
			t.Error(d)
		}
		if d := cmp.Diff([]int{MaxRows, 2 * MaxRows, src.n}, m.done); d != "" || m.bytes != int64(src.n*10) {
			t.Error(d, m.bytes)
		}
	})
	t.Run("an_import_that_was_cut_short_goes_on_where_it_ended", func(t *testing.T) {
		t.Parallel()
		var m recorder
		calls := 0
		refusing := errors.New("insufficient_scope")
		sum, err := m.importer(func(_ context.Context, b []byte) (Result, error) {
			if calls++; calls == 3 {
				return Result{}, refusing
			}
			return taken(b), nil
		}).Run(t.Context(), &file{n: 5 * MaxRows}, 1)
		if !errors.Is(err, refusing) || sum.Next != 2*MaxRows+1 || sum.Rows() != 2*MaxRows || len(m.slept) > 0 {
			t.Fatalf("%+v, %v", sum, err)
		}
		var rest bytes.Buffer
		sum, err = m.importer(func(_ context.Context, b []byte) (Result, error) {
			rest.Write(b)
			return taken(b), nil
		}).Run(t.Context(), &file{n: 5 * MaxRows}, sum.Next)
		if err != nil || sum.Rows() != 3*MaxRows || !strings.HasPrefix(rest.String(), `{"external_id":"E1001"}`) {
			t.Errorf("%+v, %v", sum, err)
		}
	})
	t.Run("what_may_pass_is_tried_again_with_growing_pauses", func(t *testing.T) {
		t.Parallel()
		var m recorder
		calls := 0
		sum, err := m.importer(func(_ context.Context, b []byte) (Result, error) {
			if calls++; calls < 5 {
				return Result{}, &RetryError{Err: errors.New("down"), Wait: map[int]time.Duration{4: time.Minute}[calls]}
			}
			return taken(b), nil
		}).Run(t.Context(), &file{n: 1}, 1)
		if err != nil || sum.Created != 1 {
			t.Errorf("%+v, %v", sum, err)
		}
		if d := cmp.Diff([]time.Duration{firstPause, 2 * firstPause, 4 * firstPause, time.Minute}, m.slept); d != "" {
			t.Error(d)
		}
	})
	t.Run("patience_ends", func(t *testing.T) {
		t.Parallel()
		var m recorder
		down := errors.New("down")
		_, err := m.importer(func(context.Context, []byte) (Result, error) { return Result{}, &RetryError{Err: down} }).Run(t.Context(), &file{n: 1}, 1)
		if !errors.Is(err, down) || len(m.slept) != maxAttempts-1 || m.slept[maxAttempts-2] != maxPause {
			t.Errorf("%v after %v", err, m.slept)
		}
	})
	t.Run("a_batch_that_is_too_large_goes_in_parts", func(t *testing.T) {
		t.Parallel()
		var m recorder
		sum, err := m.importer(func(_ context.Context, b []byte) (Result, error) {
			if len(b) > 1000 {
				return Result{}, ErrTooLarge
			}
			return taken(b, "E2", "E400"), nil
		}).Run(t.Context(), &file{n: MaxRows}, 1)
		if err != nil || sum.Created != MaxRows-2 || sum.Refused != 2 {
			t.Errorf("%+v, %v", sum, err)
		}
		if d := cmp.Diff([]string{"2 E2 person_conflict taken", "400 E400 person_conflict taken"}, m.refused); d != "" {
			t.Error(d)
		}
		if _, err := m.importer(func(context.Context, []byte) (Result, error) { return Result{}, ErrTooLarge }).Run(t.Context(), &file{n: 3}, 1); !errors.Is(err, ErrTooLarge) {
			t.Errorf("one row that is too large: %v", err)
		}
	})
	t.Run("answers_that_do_not_fit_end_it", func(t *testing.T) {
		t.Parallel()
		for name, r := range map[string]Result{"too few": {Created: 1}, "no such row": {Created: 2, Refused: []Refusal{{Place: 9}}}} {
			var m recorder
			if sum, err := m.importer(func(context.Context, []byte) (Result, error) { return r, nil }).Run(t.Context(), &file{n: 3}, 1); err == nil || sum.Rows() != 0 {
				t.Errorf("%s: %+v, %v", name, sum, err)
			}
		}
	})
	t.Run("a_file_that_breaks_off_is_an_error_behind_its_rows", func(t *testing.T) {
		t.Parallel()
		var m recorder
		broken := errors.New("input/output error")
		sum, err := m.importer(func(_ context.Context, b []byte) (Result, error) { return taken(b), nil }).Run(t.Context(), &file{n: 3, err: broken}, 1)
		if !errors.Is(err, broken) || sum.Created != 3 {
			t.Errorf("%+v, %v", sum, err)
		}
	})
	t.Run("no_more_is_read_than_a_batch_ahead", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			var m recorder
			src := &file{n: 1 << 30}
			ended := make(chan Summary)
			go func() {
				sum, err := m.importer(func(ctx context.Context, _ []byte) (Result, error) {
					<-ctx.Done() // a service that does not answer
					return Result{}, ctx.Err()
				}).Run(ctx, src, 1)
				if !errors.Is(err, context.Canceled) {
					t.Errorf("error %v", err)
				}
				ended <- sum
			}()
			synctest.Wait()
			if n := src.read.Load(); n != 2*MaxRows {
				t.Errorf("%d rows were read", n)
			}
			cancel()
			if sum := <-ended; sum.Next != 1 {
				t.Errorf("%+v", sum)
			}
		})
	})
}

func TestReportFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "report.csv")
	if err := os.WriteFile(path, []byte("of yesterday"), 0o644); err != nil {
		t.Fatal(err)
	}
	r, err := NewReportFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("a report of nothing is there: %v", err)
	}
	if err := r.Refused(7, "a,\"b", "person_conflict", "taken"); err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	got, err := csv.NewReader(f).ReadAll()
	if d := cmp.Diff([][]string{{"line", "external_id", "code", "detail"}, {"7", "a,\"b", "person_conflict", "taken"}}, got); d != "" || err != nil {
		t.Error(d, err)
	}
	if info, err := f.Stat(); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

func TestMeter(t *testing.T) {
	t.Parallel()
	now := time.Unix(0, 0)
	var out bytes.Buffer
	m := NewMeter(&out, 1000, func() time.Time { return now })
	now = now.Add(4 * time.Second)
	m.Done(1000, 100)
	if out.Len() > 0 {
		t.Errorf("too soon: %s", &out)
	}
	now = now.Add(6 * time.Second)
	m.Done(25000, 250)
	m.Waiting(errors.New("down"), time.Second)
	if got, want := out.String(), "25,000 rows, 2,500 rows/s, 25%, about 30s left\ntrying again in 1s: down\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	out.Reset()
	m = NewMeter(&out, 1000, func() time.Time { return now })
	now = now.Add(5 * time.Second)
	m.Done(1234567, 500)
	if got := out.String(); !strings.Contains(got, "1,234,567 rows, 246,913 rows/s") || !strings.Contains(got, "50%") {
		t.Errorf("the line is %q, want rows, rate and percentage", got)
	}
}

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

// file is a source of n rows, some of them invalid. It ends with err, or with io.EOF.
type file struct {
	n       int
	invalid map[int]bool
	read    atomic.Int64
	err     error
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
	if f.invalid[i] {
		row.JSON, row.Err = nil, errors.New("wrong")
	}
	return row, nil
}

// recorder records what an importer reports.
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

// createdExcept returns the result of a batch of which these rows were refused, and all others
// created.
func createdExcept(batch []byte, refuse ...string) Result {
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
	t.Run("every row is counted, and refused rows are reported by their lines", func(t *testing.T) {
		t.Parallel()
		var m recorder
		src := &file{n: 2*MaxRows + 7, invalid: map[int]bool{2: true, MaxRows + 1: true}}
		sum, err := m.importer(func(_ context.Context, b []byte) (Result, error) {
			return createdExcept(b, "E3", "E1000", "E1001"), nil
		}).Run(t.Context(), src, 1)
		want := Summary{Created: src.n - 5, Refused: 5, Next: src.n + 1}
		if err != nil || sum != want {
			t.Errorf("Run() = %+v, %v; want %+v", sum, err, want)
		}
		if d := cmp.Diff([]string{
			"2  invalid_row wrong", "3 E3 person_conflict taken", "501  invalid_row wrong", "1000 E1000 person_conflict taken", "1001 E1001 person_conflict taken",
		}, m.refused); d != "" {
			t.Errorf("reported rows, -want +got:\n%s", d)
		}
		if d := cmp.Diff([]int{MaxRows, 2 * MaxRows, src.n}, m.done); d != "" || m.bytes != int64(src.n*10) {
			t.Errorf("%d bytes done, want %d; rows done, -want +got:\n%s", m.bytes, src.n*10, d)
		}
	})
	t.Run("an interrupted import continues at the line of the summary", func(t *testing.T) {
		t.Parallel()
		var m recorder
		calls := 0
		refusing := errors.New("insufficient_scope")
		sum, err := m.importer(func(_ context.Context, b []byte) (Result, error) {
			if calls++; calls == 3 {
				return Result{}, refusing
			}
			return createdExcept(b), nil
		}).Run(t.Context(), &file{n: 5 * MaxRows}, 1)
		if !errors.Is(err, refusing) || sum.Next != 2*MaxRows+1 || sum.Rows() != 2*MaxRows || len(m.slept) > 0 {
			t.Fatalf("Run() = %+v, %v; want two batches, then %v", sum, err, refusing)
		}
		var rest bytes.Buffer
		sum, err = m.importer(func(_ context.Context, b []byte) (Result, error) {
			rest.Write(b)
			return createdExcept(b), nil
		}).Run(t.Context(), &file{n: 5 * MaxRows}, sum.Next)
		if err != nil || sum.Rows() != 3*MaxRows || !strings.HasPrefix(rest.String(), `{"external_id":"E1001"}`) {
			t.Errorf("Run() of the rest = %+v, %v; want three batches from E1001 on", sum, err)
		}
	})
	t.Run("a retry waits longer each time", func(t *testing.T) {
		t.Parallel()
		var m recorder
		calls := 0
		sum, err := m.importer(func(_ context.Context, b []byte) (Result, error) {
			if calls++; calls < 5 {
				return Result{}, &RetryError{Err: errors.New("down"), Wait: map[int]time.Duration{4: time.Minute}[calls]}
			}
			return createdExcept(b), nil
		}).Run(t.Context(), &file{n: 1}, 1)
		if err != nil || sum.Created != 1 {
			t.Errorf("Run() = %+v, %v; want one row created", sum, err)
		}
		if d := cmp.Diff([]time.Duration{firstPause, 2 * firstPause, 4 * firstPause, time.Minute}, m.slept); d != "" {
			t.Errorf("pauses, -want +got:\n%s", d)
		}
	})
	t.Run("the number of attempts is limited", func(t *testing.T) {
		t.Parallel()
		var m recorder
		down := errors.New("down")
		_, err := m.importer(func(context.Context, []byte) (Result, error) { return Result{}, &RetryError{Err: down} }).Run(t.Context(), &file{n: 1}, 1)
		if !errors.Is(err, down) || len(m.slept) != maxAttempts-1 || m.slept[maxAttempts-2] != maxPause {
			t.Errorf("Run() error = %v after pauses %v, want %v after %d pauses", err, m.slept, down, maxAttempts-1)
		}
	})
	t.Run("a batch that is too large is sent in parts", func(t *testing.T) {
		t.Parallel()
		var m recorder
		sum, err := m.importer(func(_ context.Context, b []byte) (Result, error) {
			if len(b) > 1000 {
				return Result{}, ErrTooLarge
			}
			return createdExcept(b, "E2", "E400"), nil
		}).Run(t.Context(), &file{n: MaxRows}, 1)
		if err != nil || sum.Created != MaxRows-2 || sum.Refused != 2 {
			t.Errorf("Run() = %+v, %v; want all rows created but two", sum, err)
		}
		if d := cmp.Diff([]string{"2 E2 person_conflict taken", "400 E400 person_conflict taken"}, m.refused); d != "" {
			t.Errorf("reported rows, -want +got:\n%s", d)
		}
		if _, err := m.importer(func(context.Context, []byte) (Result, error) { return Result{}, ErrTooLarge }).Run(t.Context(), &file{n: 3}, 1); !errors.Is(err, ErrTooLarge) {
			t.Errorf("Run() of one row that is too large: error = %v, want %v", err, ErrTooLarge)
		}
	})
	t.Run("an answer that does not match the batch ends the import", func(t *testing.T) {
		t.Parallel()
		for name, r := range map[string]Result{"too few": {Created: 1}, "no such row": {Created: 2, Refused: []Refusal{{Place: 9}}}} {
			var m recorder
			if sum, err := m.importer(func(context.Context, []byte) (Result, error) { return r, nil }).Run(t.Context(), &file{n: 3}, 1); err == nil || sum.Rows() != 0 {
				t.Errorf("%s: Run() = %+v, %v; want an error and no rows", name, sum, err)
			}
		}
	})
	t.Run("an error of the file comes after the rows before it", func(t *testing.T) {
		t.Parallel()
		var m recorder
		broken := errors.New("input/output error")
		sum, err := m.importer(func(_ context.Context, b []byte) (Result, error) { return createdExcept(b), nil }).Run(t.Context(), &file{n: 3, err: broken}, 1)
		if !errors.Is(err, broken) || sum.Created != 3 {
			t.Errorf("Run() = %+v, %v; want 3 rows created, then %v", sum, err, broken)
		}
	})
	t.Run("the reader is at most one batch ahead", func(t *testing.T) {
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
					t.Errorf("Run() error = %v, want %v", err, context.Canceled)
				}
				ended <- sum
			}()
			synctest.Wait()
			if n := src.read.Load(); n != 2*MaxRows {
				t.Errorf("%d rows were read, want %d", n, 2*MaxRows)
			}
			cancel()
			if sum := <-ended; sum.Next != 1 {
				t.Errorf("Run() = %+v, want Next = 1", sum)
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
		t.Errorf("Close() of an empty report: error = %v, want nil", err)
	}
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("an empty report exists, or Stat fails: %v", err)
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
		t.Errorf("error %v; the report, -want +got:\n%s", err, d)
	}
	if info, err := f.Stat(); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the report has mode %v, error %v; want 0600", info.Mode(), err)
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
		t.Errorf("the meter prints %q before its interval, want nothing", &out)
	}
	now = now.Add(6 * time.Second)
	m.Done(25000, 250)
	m.Waiting(errors.New("down"), time.Second)
	if got, want := out.String(), "25,000 rows, 2,500 rows/s, 25%, about 30s left\ntrying again in 1s: down\n"; got != want {
		t.Errorf("the meter prints %q, want %q", got, want)
	}
	out.Reset()
	m = NewMeter(&out, 1000, func() time.Time { return now })
	now = now.Add(5 * time.Second)
	m.Done(1234567, 500)
	if got := out.String(); !strings.Contains(got, "1,234,567 rows, 246,913 rows/s") || !strings.Contains(got, "50%") {
		t.Errorf("the line is %q, want rows, rate and percentage", got)
	}
}

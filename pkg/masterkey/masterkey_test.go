package masterkey

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/seal"
)

// memory is a store of session_keys. The other columns are empty.
type memory struct {
	rows   []Row // ordered by key
	events []auth.AuditEvent
	// beforeReplace is called before each batch is written.
	beforeReplace func(m *memory) error
}

func (m *memory) SealedRows(ctx context.Context, c *Column, after string, limit int) ([]Row, error) {
	if c.Table != "identities" {
		return nil, ctx.Err()
	}
	i, _ := slices.BinarySearchFunc(m.rows, after+"\x00", func(r Row, key string) int { return strings.Compare(r.Key, key) })
	return slices.Clone(m.rows[i:min(i+limit, len(m.rows))]), ctx.Err()
}

func (m *memory) ReplaceSealed(_ context.Context, _ *Column, changes []Replacement) (n int, err error) {
	if m.beforeReplace != nil {
		if err := m.beforeReplace(m); err != nil {
			return 0, err
		}
	}
	for _, r := range changes {
		i := slices.IndexFunc(m.rows, func(row Row) bool { return row.Key == r.Key })
		if bytes.Equal(m.rows[i].Stored, r.Old) {
			m.rows[i].Stored = r.New
			n++
		}
	}
	return n, nil
}

func (m *memory) RecordRewrap(ctx context.Context, event auth.AuditEvent) error {
	m.events = append(m.events, event)
	return ctx.Err()
}

// put stores a session_key that the ring seals.
func (m *memory) put(t *testing.T, ring *seal.Ring, i int) {
	t.Helper()
	r := Row{Key: fmt.Sprintf("00000000-0000-7000-8000-%012d", i+1), Place: []string{"wx1", "openid", fmt.Sprint(i)}}
	var err error
	if r.Stored, err = ring.Seal([]byte("key"), seal.AAD("identities", "sealed_session_key", r.Place...)); err != nil {
		t.Fatal(err)
	}
	if i < len(m.rows) {
		m.rows[i] = r
	} else {
		m.rows = append(m.rows, r)
	}
}

func rings(t *testing.T) (before, both, after *seal.Ring) {
	t.Helper()
	ring := func(fills ...byte) *seal.Ring {
		var keys [][]byte
		for _, b := range fills {
			keys = append(keys, bytes.Repeat([]byte{b}, seal.KeySize))
		}
		r, err := seal.NewRing(keys...)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	return ring(1), ring(2, 1), ring(2)
}

// count returns how many values each of two rings opens.
func count(t *testing.T, m *memory, a, b *seal.Ring) (n [2]int) {
	t.Helper()
	for i, ring := range []*seal.Ring{a, b} {
		counts, err := Inspect(t.Context(), m, ring)
		if err != nil {
			t.Fatal(err)
		}
		n[i] = counts[len(Columns)-1].Values
	}
	return n
}

func TestRewrap(t *testing.T) {
	const users = 3*batchSize + 1
	before, both, after := rings(t)
	event := auth.AuditEvent{Action: auth.AuditMasterRewrapped, Actor: auth.ActorCLI}
	filled := func(t *testing.T) *memory {
		t.Helper()
		m := &memory{}
		for i := range users {
			m.put(t, before, i)
		}
		return m
	}
	run := func(t *testing.T, ctx context.Context, m *memory, want Rewrapped, wantErr error) []Count {
		t.Helper()
		got, err := Rewrap(ctx, m, both, event)
		counts := got.Counts
		got.Counts = nil
		if !reflect.DeepEqual(got, want) || !errors.Is(err, wantErr) {
			t.Errorf("Rewrap() = %+v, %v; want %+v, %v", got, err, want, wantErr)
		}
		return counts
	}

	t.Run("seals all batches again", func(t *testing.T) {
		m := filled(t)
		run(t, t.Context(), m, Rewrapped{Rows: users}, nil)
		if n := count(t, m, before, after); n != [2]int{0, users} {
			t.Errorf("the old and the new key open %v values, want [0 %d]", n, users)
		}
		if len(m.events) != 1 || m.events[0].Detail["complete"] != true || m.events[0].Detail["rows"] != users {
			t.Errorf("events = %+v, want one of a complete run", m.events)
		}
		run(t, t.Context(), m, Rewrapped{}, nil)
		if len(m.events) != 1 {
			t.Errorf("a run that changes nothing wrote the event %+v", m.events[1])
		}
	})
	t.Run("is recorded when it is interrupted, and continued by the next run", func(t *testing.T) {
		m := filled(t)
		ctx, cancel := context.WithCancel(t.Context())
		m.beforeReplace = func(m *memory) error {
			m.beforeReplace = func(*memory) error { cancel(); return ctx.Err() }
			return nil
		}
		run(t, ctx, m, Rewrapped{Rows: batchSize}, context.Canceled)
		if n := count(t, m, before, after); n != [2]int{users - batchSize, batchSize} {
			t.Errorf("the old and the new key open %v values, want one batch done", n)
		}
		if len(m.events) != 1 || m.events[0].Detail["complete"] != false || m.events[0].Detail["rows"] != batchSize {
			t.Errorf("events = %+v, want one of an incomplete run", m.events)
		}
		m.beforeReplace = nil
		run(t, t.Context(), m, Rewrapped{Rows: users - batchSize}, nil)
	})
	t.Run("keeps what the service sealed meanwhile and finds what it sealed with the old key", func(t *testing.T) {
		m := filled(t)
		m.beforeReplace = func(m *memory) error {
			m.beforeReplace = nil
			m.put(t, after, 0)
			m.put(t, before, 1)
			return nil
		}
		run(t, t.Context(), m, Rewrapped{Rows: users - 1, Late: 1}, nil)
		if n := count(t, m, before, after); n != [2]int{0, users} {
			t.Errorf("the old and the new key open %v values, want [0 %d]", n, users)
		}
	})
	t.Run("ends although a service goes on sealing with the old key", func(t *testing.T) {
		m := filled(t)
		m.beforeReplace = func(m *memory) error { m.put(t, before, 0); return nil }
		run(t, t.Context(), m, Rewrapped{Rows: users - 1, Late: maxPasses - 1}, ErrStillSealed)
	})
	t.Run("leaves what does not open as it is", func(t *testing.T) {
		m := filled(t)
		m.rows[7].Stored = []byte("damaged")
		counts := run(t, t.Context(), m, Rewrapped{Rows: users - 1}, nil)
		if got, want := counts[len(counts)-1], (Count{What: "session_keys", Values: 1, Row: m.rows[7].Key}); got != want {
			t.Errorf("the last count is %+v, want %+v", got, want)
		}
		if got := string(m.rows[7].Stored); got != "damaged" {
			t.Errorf("the value is %q now", got)
		}
	})
}

package masterkey

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/seal"
)

const (
	// batchSize is the number of rows that are read at once.
	batchSize = 500
	// maxPasses bounds a run. The first pass leaves work for the second only if other
	// processes seal with an old line.
	maxPasses = 10
	// recordTimeout bounds the writing of the event of a run that was interrupted.
	recordTimeout = 10 * time.Second
)

// ErrStillSealed says that other processes go on sealing values with an old line.
var ErrStillSealed = errors.New("values sealed with an old line keep appearing")

// Count is how many values of a column one key seals.
type Count struct {
	// Line is the key's place among the keys of the file, from 1. It is 0 for values that
	// no key opens.
	Line int `json:"line"`
	// Fingerprint is that of the key, or empty for what is not a sealed value. If it is that
	// of a key in the file and Line is 0, the values were changed or moved.
	Fingerprint string `json:"fingerprint"`
	// What is that of the column.
	What   string `json:"what"`
	Values int    `json:"values"`
	// Row is the key of the first row, for values that no key opens.
	Row string `json:"row,omitempty"`
}

// Inspect counts all sealed values. The result has each key of the ring with each column,
// then what does not open.
func Inspect(ctx context.Context, s Store, ring *seal.Ring) ([]Count, error) {
	p := newPass(s, ring, false)
	err := p.run(ctx, func(*Column) bool { return true })
	return p.counts, err
}

// Check returns an error that names a value that the ring does not open and that the service
// does not replace by itself.
//
// Errors: [seal.ErrOpen] and those of the store.
func Check(ctx context.Context, s Store, ring *seal.Ring) error {
	p := newPass(s, ring, false)
	err := p.run(ctx, func(c *Column) bool { return !c.Renewed })
	if last := p.counts[len(p.counts)-1]; err == nil && last.Line == 0 {
		err = fmt.Errorf("masterkey: %s of %s: %w", last.What, last.Row, seal.ErrOpen)
	}
	return err
}

// Rewrapped is the result of a run.
type Rewrapped struct {
	// Rows is the number of rows that were sealed again.
	Rows int `json:"rows"`
	// Late is how many rows were found sealed with an old line after the first pass: other
	// processes seal with that line.
	Late int `json:"late"`
	// Counts are what the last pass found, before it replaced anything.
	Counts []Count `json:"counts"`
}

// Rewrap seals every value again that the first key of the ring does not seal, until a pass
// over all columns finds none. If it changed a row, it writes the event at the end, also
// after an error.
//
// Errors: [ErrStillSealed] and those of the store.
func Rewrap(ctx context.Context, s Store, ring *seal.Ring, event auth.AuditEvent) (done Rewrapped, err error) {
	old := 1
	for n := 0; n < maxPasses && err == nil && old > 0; n++ {
		p := newPass(s, ring, true)
		err = p.run(ctx, func(*Column) bool { return true })
		old, done.Rows, done.Counts = p.old, done.Rows+p.replaced, p.counts
		if n > 0 {
			done.Late += old
		}
	}
	if err == nil && old > 0 {
		err = ErrStillSealed
	}
	if done.Rows == 0 {
		return done, err
	}
	// An interrupted run has changed the database, too.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordTimeout)
	defer cancel()
	event = event.With(map[string]any{"rows": done.Rows, "fingerprint": ring.Fingerprints()[0], "complete": err == nil})
	return done, errors.Join(err, s.RecordRewrap(ctx, event))
}

// pass opens all values once. If replace is true, it seals them with the first key.
type pass struct {
	s       Store
	ring    *seal.Ring
	replace bool
	counts  []Count
	// old is the number of rows that the first key did not seal, and replaced how many of
	// them were replaced.
	old, replaced int
}

func newPass(s Store, ring *seal.Ring, replace bool) *pass {
	p := &pass{s: s, ring: ring, replace: replace}
	for i, f := range ring.Fingerprints() {
		for _, c := range Columns {
			p.counts = append(p.counts, Count{Line: i + 1, Fingerprint: f, What: c.What})
		}
	}
	return p
}

func (p *pass) run(ctx context.Context, in func(*Column) bool) error {
	for _, c := range Columns {
		if !in(c) {
			continue
		}
		for after, n := c.First, batchSize; n == batchSize; {
			rows, err := p.s.SealedRows(ctx, c, after, batchSize)
			if n = len(rows); err != nil {
				return err
			}
			if n > 0 {
				after = rows[n-1].Key
			}
			if err := p.batch(ctx, c, rows); err != nil {
				return err
			}
		}
	}
	return nil
}

func (p *pass) batch(ctx context.Context, c *Column, rows []Row) error {
	var changes []Replacement
	for i := range rows {
		fresh, err := p.open(c, &rows[i])
		if err != nil {
			return err
		}
		if fresh != nil {
			changes = append(changes, Replacement{rows[i].Key, rows[i].Stored, fresh})
		}
	}
	if len(changes) == 0 {
		return nil
	}
	n, err := p.s.ReplaceSealed(ctx, c, changes)
	p.old, p.replaced = p.old+len(changes), p.replaced+n
	return err
}

// open opens and counts the values of a row. It returns the new content of the row, or nil if
// the row stays as it is.
func (p *pass) open(c *Column, r *Row) (fresh []byte, err error) {
	values := map[string][]byte{"": r.Stored}
	if c.Named {
		clear(values)
		if err := json.Unmarshal(r.Stored, &values); err != nil {
			return nil, fmt.Errorf("masterkey: %s of %s are malformed: %w", c.What, r.Key, err)
		}
	}
	for name, sealed := range values {
		if len(sealed) == 0 {
			continue
		}
		place := r.Place
		if c.Named {
			place = append(slices.Clone(place), name)
		}
		aad := seal.AAD(c.Table, c.Name, place...)
		plain, err := p.ring.Open(sealed, aad)
		if line := p.count(c, r, seal.Fingerprint(sealed), err == nil); line <= 1 || !p.replace {
			continue
		}
		if fresh, err = p.ring.Seal(plain, aad); err != nil {
			return nil, err
		}
		values[name] = fresh
	}
	if c.Named && fresh != nil {
		return json.Marshal(values)
	}
	return fresh, nil
}

// count counts a value and returns its line.
func (p *pass) count(c *Column, r *Row, fingerprint string, opens bool) int {
	i := slices.IndexFunc(p.counts, func(n Count) bool {
		return n.What == c.What && n.Fingerprint == fingerprint && (n.Line > 0) == opens
	})
	if i < 0 {
		i = len(p.counts)
		p.counts = append(p.counts, Count{Fingerprint: fingerprint, What: c.What, Row: r.Key})
	}
	p.counts[i].Values++
	return p.counts[i].Line
}

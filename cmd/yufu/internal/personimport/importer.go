// Package personimport sends a file of persons to the admin API.
//
// It owns the reading of files ([NewCSV], [NewNDJSON]), batches, repeating what
// got no answer, and the report of the rows that were refused ([Importer]). It
// does not own the protocol (pkg/adminclient, behind [Sender]), what a person must
// be (the service), or the command line.
//
// Memory is bounded whatever the file: by a batch being read and one being sent.
//
// # Failure
//
// A row that is wrong is reported and left out. A batch that got no answer is sent
// again: to import what is there already changes nothing. For the same reason a
// whole import may be repeated; the rows before [Summary.Next] have been answered.
package personimport

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"time"
)

// Bounds of a batch.
const (
	// MaxRows is how many rows are sent at once: the service takes as many in one
	// transaction, and log-ins on SQLite wait for it.
	MaxRows = 500
	// maxBytes is well below what the service takes.
	maxBytes = 1 << 20
)

// Patience with a service that does not answer.
const (
	firstPause  = 500 * time.Millisecond
	maxPause    = 15 * time.Second
	maxAttempts = 10
)

// Result is what became of a batch.
type Result struct {
	Created, Updated, Unchanged int
	// Refused are rows by their place in the batch, from 1.
	Refused []Refusal
}

// Refusal is a row that was refused.
type Refusal struct {
	Place        int
	Code, Detail string
}

// Sender sends a batch, one person a line.
//
// Errors: [*RetryError] when the same batch may be sent again, [ErrTooLarge] when it
// must be sent in parts; with any other the import ends.
type Sender func(ctx context.Context, batch []byte) (Result, error)

// RetryError is an error that may pass.
type RetryError struct {
	Err error
	// Wait is how long to wait at least.
	Wait time.Duration
}

// Error implements error.
func (e *RetryError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *RetryError) Unwrap() error { return e.Err }

// ErrTooLarge says that somebody on the way takes no body of this length.
var ErrTooLarge = errors.New("the service, or a proxy in front of it, refused the batch as too large")

// Progress is told how far an import is.
type Progress interface {
	// Done is called after each batch with all rows answered and bytes read so
	// far.
	Done(rows int, bytes int64)
	// Waiting is called before a batch is sent again.
	Waiting(err error, pause time.Duration)
}

// Report takes rows that were refused.
type Report interface {
	Refused(line int, externalID, code, detail string) error
}

// Importer sends files. All fields are required.
type Importer struct {
	Send     Sender
	Progress Progress
	Report   Report
	// Sleep waits, or returns the context's error.
	Sleep func(ctx context.Context, d time.Duration) error
}

// Summary is what became of a file.
type Summary struct {
	Created, Updated, Unchanged, Refused int
	// Next is the line to begin with to go on: all rows before it were answered.
	Next int
}

// Rows returns how many rows were answered.
func (s *Summary) Rows() int { return s.Created + s.Updated + s.Unchanged + s.Refused }

// invalidRow is the code of rows that were not sent.
const invalidRow = "invalid_row"

// batch is rows to send together, in the order of the file, the wrong ones too.
type batch struct {
	rows []Row
	// valid are the places of those to send.
	valid []int
	size  int
	err   error // of the source, behind the rows
}

// Run sends the rows from a line on. The summary says what was answered, also
// with an error.
func (i *Importer) Run(ctx context.Context, src Source, from int) (Summary, error) {
	sum := Summary{Next: max(from, 1)}
	reading, stop := context.WithCancel(ctx)
	batches := make(chan batch)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		read(reading, src, from, batches)
	}()
	// A source that waits for its input is not to be waited for: the reader ends
	// when it next has something.
	defer stop()
	for {
		var b batch
		select {
		case b = <-batches:
		case <-ctx.Done():
			return sum, ctx.Err()
		}
		if err := i.sendBatch(ctx, &b, &sum); err != nil {
			return sum, err
		}
		if b.err != nil {
			<-ended
			if errors.Is(b.err, io.EOF) {
				return sum, nil
			}
			return sum, b.err
		}
	}
}

// read makes batches of the rows until the file ends or nobody wants them.
func read(ctx context.Context, src Source, from int, batches chan<- batch) {
	for {
		var b batch
		for len(b.rows) < MaxRows && b.size < maxBytes && b.err == nil {
			row, err := src.Next()
			switch {
			case err != nil:
				b.err = err
			case row.Line >= from:
				if row.Err == nil {
					b.valid = append(b.valid, len(b.rows))
					b.size += len(row.JSON) + 1
				}
				b.rows = append(b.rows, row)
			}
			if ctx.Err() != nil {
				return
			}
		}
		select {
		case batches <- b:
		case <-ctx.Done():
			return
		}
		if b.err != nil {
			return
		}
	}
}

// sendBatch sends a batch and counts what became of its rows.
func (i *Importer) sendBatch(ctx context.Context, b *batch, sum *Summary) error {
	refused := make([]*Refusal, len(b.rows))
	for place := range b.rows {
		if err := b.rows[place].Err; err != nil {
			refused[place] = &Refusal{Code: invalidRow, Detail: err.Error()}
		}
	}
	r, err := i.sendRows(ctx, b, b.valid)
	if err != nil {
		return err
	}
	for k := range r.Refused {
		place := r.Refused[k].Place
		if place < 1 || place > len(b.valid) {
			return fmt.Errorf("the service refused line %d of a batch of %d lines", place, len(b.valid))
		}
		refused[b.valid[place-1]] = &r.Refused[k]
	}
	if n := r.Created + r.Updated + r.Unchanged + len(r.Refused); n != len(b.valid) {
		return fmt.Errorf("the service answered for %d of %d rows; check that it has the version of this program", n, len(b.valid))
	}
	for place, no := range refused {
		if no == nil {
			continue
		}
		row := &b.rows[place]
		if err := i.Report.Refused(row.Line, externalID(row), no.Code, no.Detail); err != nil {
			return err
		}
		sum.Refused++
	}
	sum.Created, sum.Updated, sum.Unchanged = sum.Created+r.Created, sum.Updated+r.Updated, sum.Unchanged+r.Unchanged
	if n := len(b.rows); n > 0 {
		sum.Next = b.rows[n-1].Line + 1
		i.Progress.Done(sum.Rows(), b.rows[n-1].End)
	}
	return nil
}

// sendRows sends some rows of a batch, in parts if need be, and again if it may.
func (i *Importer) sendRows(ctx context.Context, b *batch, valid []int) (Result, error) {
	if len(valid) == 0 {
		return Result{}, nil
	}
	var body bytes.Buffer
	for _, place := range valid {
		body.Write(b.rows[place].JSON)
		body.WriteByte('\n')
	}
	pause := firstPause
	for attempt := 1; ; attempt++ {
		r, err := i.Send(ctx, body.Bytes())
		var retry *RetryError
		switch {
		case err == nil:
			return r, nil
		case ctx.Err() != nil:
			return Result{}, ctx.Err()
		case errors.Is(err, ErrTooLarge) && len(valid) > 1:
			return i.sendInHalves(ctx, b, valid)
		case !errors.As(err, &retry) || attempt == maxAttempts:
			return Result{}, err
		}
		wait := max(pause, retry.Wait)
		i.Progress.Waiting(err, wait)
		if err := i.Sleep(ctx, wait); err != nil {
			return Result{}, err
		}
		pause = min(2*pause, maxPause)
	}
}

func (i *Importer) sendInHalves(ctx context.Context, b *batch, valid []int) (Result, error) {
	half := len(valid) / 2
	r, err := i.sendRows(ctx, b, valid[:half])
	if err != nil {
		return r, err
	}
	second, err := i.sendRows(ctx, b, valid[half:])
	for _, no := range second.Refused {
		no.Place += half
		r.Refused = append(r.Refused, no)
	}
	r.Created, r.Updated, r.Unchanged = r.Created+second.Created, r.Updated+second.Updated, r.Unchanged+second.Unchanged
	return r, err
}

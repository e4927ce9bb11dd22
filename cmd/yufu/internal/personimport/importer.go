// Package personimport sends a file of persons to the admin API.
//
// It owns the reading of files ([NewCSV], [NewNDJSON]), batches, retries, and the report of
// refused rows ([Importer]). It does not own the protocol (pkg/adminclient, behind
// [Sender]), the rules for a person (the service), or the command line.
//
// Memory holds one batch that is read and one that is sent, whatever the size of the file.
//
// # Failure
//
// An invalid row is reported and not sent. A batch without an answer is sent again: an import
// of persons that exist already changes nothing. For the same reason, a whole import can be
// repeated. The rows before [Summary.Next] have been answered.
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
	// MaxRows is the number of rows in a batch. The service imports a batch in one
	// transaction, for which log-ins on SQLite wait.
	MaxRows = 500
	// maxBytes is well below the maximum that the service accepts.
	maxBytes = 1 << 20
)

// Retries while the service does not answer. The pause doubles from the first to the longest.
const (
	firstPause  = 500 * time.Millisecond
	maxPause    = 15 * time.Second
	maxAttempts = 10
)

// Result counts the outcomes of the rows of a batch.
type Result struct {
	Created, Updated, Unchanged int
	Refused                     []Refusal
}

// Refusal is a row that the service refused.
type Refusal struct {
	// Place is the number of the row in the batch, from 1.
	Place        int
	Code, Detail string
}

// Sender sends a batch, one person a line.
//
// Errors: [*RetryError] if the batch may be sent again, [ErrTooLarge] if it must be sent in
// parts. Any other error ends the import.
type Sender func(ctx context.Context, batch []byte) (Result, error)

// RetryError is an error after which a batch may be sent again.
type RetryError struct {
	Err error
	// Wait is the minimum time to wait before that.
	Wait time.Duration
}

// Error implements error.
func (e *RetryError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *RetryError) Unwrap() error { return e.Err }

// ErrTooLarge reports that the service, or a proxy in front of it, accepts no body of this
// length.
var ErrTooLarge = errors.New("the service, or a proxy in front of it, refused the batch as too large")

// Progress receives the progress of an import.
type Progress interface {
	// Done is called after each batch with the number of rows answered and of bytes read
	// so far.
	Done(rows int, bytes int64)
	// Waiting is called before a batch is sent again.
	Waiting(err error, pause time.Duration)
}

// Report receives the rows that were refused.
type Report interface {
	// Refused reports one row, by its line in the file.
	Refused(line int, externalID, code, detail string) error
}

// Importer imports files. All fields are required.
type Importer struct {
	Send     Sender
	Progress Progress
	Report   Report
	// Sleep waits, or returns the context's error.
	Sleep func(ctx context.Context, d time.Duration) error
}

// Summary counts the outcomes of the rows of a file.
type Summary struct {
	Created, Updated, Unchanged, Refused int
	// Next is the line from which to continue. All rows before it were answered.
	Next int
}

// Rows returns the number of rows that were answered.
func (s *Summary) Rows() int { return s.Created + s.Updated + s.Unchanged + s.Refused }

// invalidRow is the code of rows that were not sent.
const invalidRow = "invalid_row"

// batch holds rows in the order of the file, including invalid ones.
type batch struct {
	rows []Row
	// valid holds the indexes of the rows to send.
	valid []int
	size  int
	err   error // of the source, after the rows
}

// Run sends the rows from a line on. The summary is valid also if Run returns an error.
func (i *Importer) Run(ctx context.Context, src Source, from int) (Summary, error) {
	sum := Summary{Next: max(from, 1)}
	reading, stop := context.WithCancel(ctx)
	batches := make(chan batch)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		read(reading, src, from, batches)
	}()
	// Run does not wait for the reader, whose source may wait for input: the reader ends when
	// the source next returns.
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

// read makes batches of the rows until the file ends or ctx is done.
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

// sendBatch sends a batch, reports its refused rows and adds it to the summary.
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
	for place, refusal := range refused {
		if refusal == nil {
			continue
		}
		row := &b.rows[place]
		if err := i.Report.Refused(row.Line, externalID(row), refusal.Code, refusal.Detail); err != nil {
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

// sendRows sends some rows of a batch. It retries, and splits a batch that is too large.
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
	for _, refusal := range second.Refused {
		refusal.Place += half
		r.Refused = append(r.Refused, refusal)
	}
	r.Created, r.Updated, r.Unchanged = r.Created+second.Created, r.Updated+second.Updated, r.Unchanged+second.Unchanged
	return r, err
}

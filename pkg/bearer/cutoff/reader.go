package cutoff

import (
	"bufio"
	"bytes"
	"errors"
	"io"
)

// MaxEvent is the maximum size of one event, and of one line, in bytes. The events of the
// feed have a few hundred.
const MaxEvent = 16 << 10

// ErrTooLong is an event that is longer than [MaxEvent].
var ErrTooLong = errors.New("cutoff: an event of the feed exceeds the size limit")

// Reader reads a stream of events. It holds one event at a time and buffers a
// few kilobytes.
type Reader struct {
	r          *bufio.Reader
	line       []byte
	bomChecked bool // the byte order mark, if any, has been skipped
	afterCR    bool // the last line ended in CR, so a LF that follows belongs to it
}

// NewReader returns a reader of the stream.
func NewReader(r io.Reader) *Reader {
	return &Reader{r: bufio.NewReader(r), line: make([]byte, 0, 256)}
}

// Next returns the next event that has data. It skips comments and fields that the feed
// does not use.
//
// Errors: [io.EOF] at the end of the stream, [io.ErrUnexpectedEOF] when it ends
// inside an event, [ErrTooLong], and those of the underlying reader. Do not use
// the reader after an error.
func (r *Reader) Next() (Event, error) {
	var e Event
	size, open, hasData := 0, false, false
	for {
		line, err := r.readLine()
		if err != nil {
			if errors.Is(err, io.EOF) && (open || len(line) > 0) {
				err = io.ErrUnexpectedEOF
			}
			return Event{}, err
		}
		if len(line) == 0 {
			if hasData {
				return e, nil
			}
			e, size, open = Event{}, 0, false
			continue
		}
		field, value, _ := bytes.Cut(line, []byte(":"))
		if len(field) == 0 {
			continue // a comment
		}
		open = true
		if size += len(line); size > MaxEvent {
			return Event{}, ErrTooLong
		}
		value = bytes.TrimPrefix(value, []byte(" "))
		switch string(field) {
		case "event":
			e.Name = string(value)
		case "id":
			if bytes.IndexByte(value, 0) < 0 {
				e.ID = string(value)
			}
		case "data":
			if hasData {
				e.Data = append(e.Data, '\n')
			} else {
				e.Data, hasData = make([]byte, 0, len(value)), true
			}
			e.Data = append(e.Data, value...)
		}
	}
}

// readLine returns the next line without its end: LF, CR LF or CR. It never waits for the
// byte after a CR. The line is valid until the next call.
func (r *Reader) readLine() ([]byte, error) {
	r.line = r.line[:0]
	for {
		b, err := r.r.ReadByte()
		if err != nil {
			return r.line, err
		}
		if r.afterCR {
			r.afterCR = false
			if b == '\n' {
				continue
			}
		}
		switch b {
		case '\r':
			r.afterCR = true
			return r.lineWithoutBOM(), nil
		case '\n':
			return r.lineWithoutBOM(), nil
		}
		if len(r.line) == MaxEvent {
			return r.line, ErrTooLong
		}
		r.line = append(r.line, b)
	}
}

// lineWithoutBOM returns the line without the byte order mark that may begin the stream.
func (r *Reader) lineWithoutBOM() []byte {
	if !r.bomChecked {
		r.bomChecked = true
		return bytes.TrimPrefix(r.line, []byte("\xef\xbb\xbf"))
	}
	return r.line
}

package personimport

import (
	"bytes"
	"encoding/json"
	"io"
)

// Row is one person of a file.
type Row struct {
	// Line is where the row begins, from 1.
	Line int
	// End is how many bytes of the file are read with it.
	End int64
	// ExternalID is for reports; it may be empty.
	ExternalID string
	// JSON is the person as the admin API takes him, on one line.
	JSON []byte
	// Err says that the row is none, and why.
	Err error
}

// Source reads the rows of a file.
type Source interface {
	// Next returns the next row, or [io.EOF], or the error of the file. What is
	// wrong with a row alone is in its Err.
	Next() (Row, error)
}

// ndjson reads a JSON object from each line.
type ndjson struct{ lines *lines }

// NewNDJSON reads a person from each line, in the form of the admin API. Empty
// lines are skipped.
func NewNDJSON(r io.Reader) (Source, error) {
	l, err := newLines(r)
	if err != nil {
		return nil, err
	}
	return &ndjson{l}, nil
}

// Next implements [Source].
func (s *ndjson) Next() (Row, error) {
	for {
		l, err := s.lines.next()
		if err != nil {
			return Row{}, err
		}
		row := Row{Line: l.n, End: l.end, Err: l.err}
		text := bytes.TrimSpace(l.text)
		if row.Err == nil && len(text) == 0 {
			continue
		}
		// A line break that is no end of a line, to JSON or to us, would be two
		// rows to the service.
		row.JSON = bytes.ReplaceAll(text, []byte("\r"), []byte(" "))
		if row.Err != nil {
			row.JSON = nil
		}
		return row, nil
	}
}

// externalID finds the external_id of a row that was sent, for the report.
func externalID(row *Row) string {
	if row.ExternalID != "" || row.JSON == nil {
		return row.ExternalID
	}
	var p struct {
		ExternalID string `json:"external_id"`
	}
	_ = json.Unmarshal(row.JSON, &p) // what is not JSON has none
	return p.ExternalID
}

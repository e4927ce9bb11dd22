package personimport

import (
	"bytes"
	"encoding/json"
	"io"
)

// Row is one person of a file.
type Row struct {
	// Line is the number of the line where the row begins, from 1.
	Line int
	// End is the number of bytes of the file up to the end of the row.
	End int64
	// ExternalID is for reports. It may be empty.
	ExternalID string
	// JSON is the person in the form of the admin API, on one line.
	JSON []byte
	// Err is the reason why the row is invalid, or nil.
	Err error
}

// Source reads the rows of a file.
type Source interface {
	// Next returns the next row, [io.EOF] at the end, or an error of the file. An error of
	// one row is in its Err.
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
		// A carriage return inside the text is white space in JSON, but the service could
		// take it for the end of a row.
		row.JSON = bytes.ReplaceAll(text, []byte("\r"), []byte(" "))
		if row.Err != nil {
			row.JSON = nil
		}
		return row, nil
	}
}

// externalID returns the external_id of a row, for the report.
func externalID(row *Row) string {
	if row.ExternalID != "" || row.JSON == nil {
		return row.ExternalID
	}
	var p struct {
		ExternalID string `json:"external_id"`
	}
	_ = json.Unmarshal(row.JSON, &p) // if this fails, the external_id is empty
	return p.ExternalID
}

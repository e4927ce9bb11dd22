package personimport

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/yufu-auth/yufu/pkg/auth"
)

// maxRecordLines is over how many lines a record of a CSV file may go: a cell may
// hold line breaks. Else a quotation mark that is never closed would swallow the
// file.
const maxRecordLines = 100

// column says what a cell is.
type column struct {
	// kind is external_id, name, phone, fact or attr.
	kind string
	// name is that of a fact or an attribute.
	name string
}

// person is a row as the admin API takes it.
type person struct {
	ExternalID string            `json:"external_id"`
	Name       string            `json:"name,omitempty"`
	Phone      string            `json:"phone,omitempty"`
	Facts      map[string]string `json:"facts,omitempty"`
	Attributes map[string]string `json:"attributes,omitzero"`
}

type csvSource struct {
	lines   *lines
	columns []column
	// hasAttributes says that rows without any attribute have an empty object of
	// them.
	hasAttributes bool
	// ahead are lines that were read to see whether a record goes on in them.
	ahead []line
}

// NewCSV reads a table of values between commas (RFC 4180), whose first line
// names the columns: external_id, name, phone, fact.NAME and attr.NAME, in any
// order. An empty cell names nothing: what the person has stays. Attributes of
// the file replace all that he has.
//
// The error is that of the file or its header.
func NewCSV(r io.Reader) (Source, error) {
	l, err := newLines(r)
	if err != nil {
		return nil, err
	}
	s := &csvSource{lines: l}
	for s.columns == nil {
		header, err := l.next()
		switch {
		case errors.Is(err, io.EOF):
			return nil, errors.New("the file is empty; its first line names the columns, for example: external_id,name,phone,fact.employee_no,attr.dept")
		case err != nil:
			return nil, err
		case header.err != nil:
			return nil, fmt.Errorf("the header: %w", header.err)
		case len(bytes.TrimSpace(header.text)) == 0:
			continue
		}
		if err := s.readHeader(header.text); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func (s *csvSource) readHeader(text []byte) error {
	names, err := cells(text)
	if err != nil {
		return fmt.Errorf("the header: %w", err)
	}
	if len(names) == 1 && strings.ContainsAny(names[0], ";\t") {
		return errors.New("the header has no commas; separate the columns with commas, not with semicolons or tabs")
	}
	for len(names) > 0 && trim(names[len(names)-1]) == "" {
		names = names[:len(names)-1] // a spreadsheet's empty columns
	}
	for i, name := range names {
		c, err := columnOf(trim(name))
		switch {
		case err != nil:
			return fmt.Errorf("the header: column %d: %w", i+1, err)
		case slices.Contains(s.columns, c):
			return fmt.Errorf("the header: column %d: %s is repeated", i+1, trim(name))
		}
		s.columns = append(s.columns, c)
		s.hasAttributes = s.hasAttributes || c.kind == "attr"
	}
	if !slices.Contains(s.columns, column{kind: "external_id"}) {
		return errors.New("the header has no column external_id, which identifies each person")
	}
	return nil
}

func columnOf(name string) (column, error) {
	kind, rest, dotted := strings.Cut(name, ".")
	switch kind {
	case "external_id", "name", "phone":
		if !dotted {
			return column{kind: kind}, nil
		}
	case "fact":
		if auth.ValidFactName(rest) {
			return column{kind, rest}, nil
		}
		return column{}, fmt.Errorf("%q: the name of a fact must be 1 to 32 lower-case letters, digits and underscores", name)
	case "attr":
		if rest != "" && len(rest) <= auth.MaxAttributeNameLen && auth.CleanText(rest) {
			return column{kind, rest}, nil
		}
	}
	return column{}, fmt.Errorf("%q is not a column; the columns are external_id, name, phone, fact.NAME and attr.NAME", name)
}

// Next implements [Source].
func (s *csvSource) Next() (Row, error) {
	for {
		first, err := s.line()
		if err != nil {
			return Row{}, err
		}
		row := Row{Line: first.n, End: first.end, Err: first.err}
		if row.Err == nil && len(bytes.TrimSpace(first.text)) == 0 {
			continue
		}
		var record []string
		switch {
		case row.Err != nil: // of the line alone; the file goes on
		case balanced(first.text):
			record, row.Err = cells(first.text)
		default:
			record, row.End, row.Err = s.longRecord(first)
		}
		if row.Err == nil && !slices.ContainsFunc(record, func(cell string) bool { return trim(cell) != "" }) {
			continue // a spreadsheet's empty line
		}
		if row.Err == nil {
			row.ExternalID, row.JSON, row.Err = s.person(record)
		}
		return row, nil
	}
}

// line returns the next line, perhaps one that was looked at already.
func (s *csvSource) line() (line, error) {
	if len(s.ahead) > 0 {
		l := s.ahead[0]
		s.ahead = s.ahead[1:]
		return l, nil
	}
	return s.lines.next()
}

// balanced reports whether all quotation marks of a text are closed in it: one
// that stands for itself is doubled, so there is an even number of them.
func balanced(text []byte) bool { return bytes.Count(text, []byte{'"'})%2 == 0 }

var errQuote = errors.New(`a quotation mark (") is not closed, or is not at the start or end of its cell`)

// longRecord reads a record that goes on in the next lines. If it makes no sense
// with them, it is the first line alone that is wrong, and they are rows.
func (s *csvSource) longRecord(first line) ([]string, int64, error) {
	text := slices.Clone(first.text)
	var more []line
	for !balanced(text) && len(more) < maxRecordLines && len(text) < maxLine {
		l, err := s.line()
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, 0, err
		}
		if err != nil {
			break
		}
		l.text = slices.Clone(l.text)
		more = append(more, l)
		if l.err != nil {
			break
		}
		text = append(append(text, '\n'), l.text...)
	}
	if balanced(text) {
		if record, err := cells(text); err == nil && len(record) <= len(s.columns) {
			return record, more[len(more)-1].end, nil
		}
	}
	s.ahead = append(more, s.ahead...)
	return nil, first.end, errQuote
}

// cells splits a record into its cells.
func cells(text []byte) ([]string, error) {
	if bytes.IndexByte(text, '"') < 0 {
		return strings.Split(string(text), ","), nil
	}
	r := csv.NewReader(bytes.NewReader(text))
	record, err := r.Read()
	if err != nil {
		return nil, errQuote
	}
	return record, nil
}

// trim returns a cell without the white space around it and the invisible marks
// that spreadsheets and web pages leave in it.
func trim(cell string) string { return strings.TrimSpace(auth.StripMarks(cell)) }

// person makes a person of a record. Cells that are not there are empty, as a
// spreadsheet leaves them.
func (s *csvSource) person(record []string) (externalID string, text []byte, err error) {
	if len(record) > len(s.columns) && slices.ContainsFunc(record[len(s.columns):], func(cell string) bool { return cell != "" }) {
		return "", nil, fmt.Errorf("the row has %d cells, the header has %d", len(record), len(s.columns))
	}
	p := person{Facts: map[string]string{}}
	if s.hasAttributes {
		p.Attributes = map[string]string{}
	}
	for i, c := range s.columns {
		if i >= len(record) {
			continue
		}
		cell := trim(record[i])
		if cell == "" {
			continue
		}
		switch c.kind {
		case "external_id":
			p.ExternalID = cell
		case "name":
			p.Name = cell
		case "phone":
			p.Phone = cell
		case "fact":
			p.Facts[c.name] = cell
		case "attr":
			p.Attributes[c.name] = cell
		}
	}
	if p.ExternalID == "" {
		return "", nil, errors.New("external_id is empty")
	}
	text, err = json.Marshal(p)
	return p.ExternalID, text, err
}

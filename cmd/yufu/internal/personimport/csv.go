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

// maxRecordLines is the maximum number of lines of a record, whose cells may contain line
// breaks. Without it, a quotation mark that is never closed would swallow the file.
const maxRecordLines = 100

// column is the meaning of the cells of a column.
type column struct {
	// kind is external_id, name, phone, fact or attr.
	kind string
	// name is the name of the fact or attribute, if it is one.
	name string
}

// person is a row in the form of the admin API.
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
	// hasAttributes is set if the file has attribute columns. A row without any attribute
	// then has an empty object of them.
	hasAttributes bool
	// ahead holds lines that were read to look for the end of a record.
	ahead []line
}

// NewCSV reads comma-separated values (RFC 4180). The first line names the columns:
// external_id, name, phone, fact.NAME and attr.NAME, in any order. An empty cell changes
// nothing. The attributes in the file replace all attributes of the person.
//
// It returns an error if the file cannot be read or the header is wrong.
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
		names = names[:len(names)-1] // spreadsheets add empty columns
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
		case row.Err != nil: // only this line is wrong; the file goes on
		case balanced(first.text):
			record, row.Err = cells(first.text)
		default:
			record, row.End, row.Err = s.longRecord(first)
		}
		if row.Err == nil && !slices.ContainsFunc(record, func(cell string) bool { return trim(cell) != "" }) {
			continue // spreadsheets add empty lines
		}
		if row.Err == nil {
			row.ExternalID, row.JSON, row.Err = s.person(record)
		}
		return row, nil
	}
}

// line returns the next line, which may be one of ahead.
func (s *csvSource) line() (line, error) {
	if len(s.ahead) > 0 {
		l := s.ahead[0]
		s.ahead = s.ahead[1:]
		return l, nil
	}
	return s.lines.next()
}

// balanced reports whether all quotation marks of a text are closed in it. Their number is
// then even, because a literal quotation mark is doubled.
func balanced(text []byte) bool { return bytes.Count(text, []byte{'"'})%2 == 0 }

var errQuote = errors.New(`a quotation mark (") is not closed, or is not at the start or end of its cell`)

// longRecord reads a record that continues on the next lines. If these do not complete a
// record, only the first line is invalid, and the next lines are rows of their own.
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

// trim returns a cell without the white space around it and without the invisible marks that
// spreadsheets and web pages leave in text.
func trim(cell string) string { return strings.TrimSpace(auth.StripMarks(cell)) }

// person returns the person of a record as JSON. A record may be shorter than the header,
// because spreadsheets omit empty cells at the end.
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

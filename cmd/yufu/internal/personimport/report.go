package personimport

import (
	"bufio"
	"encoding/csv"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
)

// ReportFile is a report as a table in a file that its owner alone may read. The
// file is there only if there is anything in it.
type ReportFile struct {
	path string
	f    *os.File
	buf  *bufio.Writer
	csv  *csv.Writer
}

// NewReportFile returns the report at a path. What an import before this one
// reported there goes.
func NewReportFile(path string) (*ReportFile, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("cannot remove the old report: %w", err)
	}
	return &ReportFile{path: path}, nil
}

// Refused implements [Report].
func (r *ReportFile) Refused(line int, externalID, code, detail string) error {
	if r.f == nil {
		f, err := os.OpenFile(r.path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if err != nil {
			return fmt.Errorf("cannot write the report: %w", err)
		}
		r.f, r.buf = f, bufio.NewWriter(f)
		r.csv = csv.NewWriter(r.buf)
		if err := r.csv.Write([]string{"line", "external_id", "code", "detail"}); err != nil {
			return fmt.Errorf("cannot write the report: %w", err)
		}
	}
	if err := r.csv.Write([]string{strconv.Itoa(line), externalID, code, detail}); err != nil {
		return fmt.Errorf("cannot write the report: %w", err)
	}
	return nil
}

// Close writes what is left.
func (r *ReportFile) Close() error {
	if r.f == nil {
		return nil
	}
	r.csv.Flush()
	if err := errors.Join(r.csv.Error(), r.buf.Flush(), r.f.Close()); err != nil {
		return fmt.Errorf("cannot write the report: %w", err)
	}
	return nil
}

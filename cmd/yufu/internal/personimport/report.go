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

// ReportFile is a [Report] that writes CSV to a file which only its owner can read. The file
// exists only if a row was refused.
type ReportFile struct {
	path string
	f    *os.File
	buf  *bufio.Writer
	csv  *csv.Writer
}

// NewReportFile returns a report that is written to a path. It removes the file that an
// earlier import left there.
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

// Close writes the buffered rows and closes the file.
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

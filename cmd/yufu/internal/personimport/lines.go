package personimport

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"
)

// Bounds of a file's text, in bytes.
const (
	// maxLine is the maximum length of a line. Any person is shorter.
	maxLine = 64 << 10
	// sampleSize is the length of the start of a file that is checked before any row is sent.
	sampleSize = 64 << 10
)

// errLineTooLong is the error of a line longer than [maxLine].
var errLineTooLong = fmt.Errorf("the line is longer than %d kB", maxLine>>10)

// lines reads a text line by line, with bounded memory.
type lines struct {
	r *bufio.Reader
	// n is the number of the last line, and offset the number of bytes up to its end.
	n      int
	offset int64
}

// line is one line, without its end.
type line struct {
	n    int
	end  int64
	text []byte
	err  error
}

// newLines checks the beginning of a text and refuses it if it is not UTF-8. It skips a
// byte-order mark.
func newLines(r io.Reader) (*lines, error) {
	l := &lines{r: bufio.NewReaderSize(r, sampleSize)}
	sample, err := l.r.Peek(sampleSize)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if err := checkSample(sample, err != nil); err != nil {
		return nil, err
	}
	if bom := []byte("\uFEFF"); bytes.HasPrefix(sample, bom) {
		_, _ = l.r.Discard(len(bom)) // cannot fail: Peek has buffered it
		l.offset = int64(len(bom))
	}
	return l, nil
}

const howToUTF8 = "save it as UTF-8 (in Excel: “CSV UTF-8”), or convert it, for example: iconv -f GB18030 -t UTF-8 FILE > FILE.utf8.csv"

func checkSample(sample []byte, whole bool) error {
	switch {
	case bytes.HasPrefix(sample, []byte{0xFF, 0xFE}), bytes.HasPrefix(sample, []byte{0xFE, 0xFF}):
		return errors.New("the file is UTF-16; " + howToUTF8)
	case bytes.HasPrefix(sample, []byte("PK\x03\x04")), bytes.HasPrefix(sample, []byte{0xD0, 0xCF, 0x11, 0xE0}):
		return errors.New("the file is a workbook or an archive, not text; in Excel save it as “CSV UTF-8”")
	case bytes.HasPrefix(sample, []byte{0x1F, 0x8B}):
		return errors.New("the file is compressed; unpack it into standard input: zcat FILE | yufu person import -")
	case bytes.IndexByte(sample, 0) >= 0:
		return errors.New("the file is not text, or not in UTF-8; " + howToUTF8)
	}
	if !whole {
		// The end of the sample may be in the middle of a character.
		for i := 0; i < utf8.UTFMax && len(sample) > 0 && !utf8.Valid(sample); i++ {
			if r, size := utf8.DecodeLastRune(sample); r != utf8.RuneError || size > 1 {
				break
			}
			sample = sample[:len(sample)-1]
		}
	}
	n := 0
	for text := range bytes.Lines(sample) {
		n++
		if !utf8.Valid(text) {
			return fmt.Errorf("line %d is not UTF-8, perhaps GBK; %s", n, howToUTF8)
		}
	}
	return nil
}

// next returns the next line, or [io.EOF]. The text is valid until the next call. A line that
// is too long has the error [errLineTooLong] and no text.
func (l *lines) next() (line, error) {
	text, err := l.r.ReadSlice('\n')
	l.offset += int64(len(text))
	long := false
	for errors.Is(err, bufio.ErrBufferFull) {
		long = true
		text, err = l.r.ReadSlice('\n')
		l.offset += int64(len(text))
	}
	if err != nil && (!errors.Is(err, io.EOF) || len(text) == 0 && !long) {
		return line{}, err
	}
	l.n++
	got := line{n: l.n, end: l.offset}
	switch text = bytes.TrimRight(text, "\r\n"); {
	case long:
		got.err = errLineTooLong
	case !utf8.Valid(text):
		got.err = errors.New("the line is not UTF-8")
	default:
		got.text = text
	}
	return got, nil
}

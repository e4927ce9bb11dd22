package personimport

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// rows reads all rows and returns each as "LINE JSON" or "LINE ! error".
func rows(t *testing.T, src Source) []string {
	t.Helper()
	var all []string
	for {
		row, err := src.Next()
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		if row.Err != nil {
			all = append(all, fmt.Sprintf("%d ! %v", row.Line, row.Err))
		} else {
			all = append(all, fmt.Sprintf("%d %s", row.Line, row.JSON))
		}
	}
}

func TestCSV(t *testing.T) {
	t.Parallel()
	bad := errQuote.Error()
	for name, c := range map[string]struct {
		text string
		want []string
	}{
		"every kind of column": {
			"external_id,name,phone,fact.employee_no,attr.dept\n1001,李雷,13800001001,0001,销售\n",
			[]string{`2 {"external_id":"1001","name":"李雷","phone":"13800001001","facts":{"employee_no":"0001"},"attributes":{"dept":"销售"}}`},
		},
		"a byte-order mark, and lines as Windows ends them": {
			"\uFEFFexternal_id,name\r\n1,a\r\n2,b", []string{`2 {"external_id":"1","name":"a"}`, `3 {"external_id":"2","name":"b"}`},
		},
		"columns in another order, with spaces": {" name , external_id \n a , 1 \n", []string{`2 {"external_id":"1","name":"a"}`}},
		"empty cells change nothing, and attributes replace all": {
			"external_id,name,attr.a\n1,,\n2,,x\n", []string{`2 {"external_id":"1","attributes":{}}`, `3 {"external_id":"2","attributes":{"a":"x"}}`},
		},
		"missing cells, and extra empty ones": {
			"external_id,name,phone\n1\n2,b,,,\n", []string{`2 {"external_id":"1"}`, `3 {"external_id":"2","name":"b"}`},
		},
		"invisible marks": {
			"external_id\u200b,\u200ename,phone,fact.name\n\u202d1\u202c,李\u00a0雷\ufeff,\u200b,买买提•艾力\u200e\n\u200b,\u2060\n",
			[]string{`2 {"external_id":"1","name":"李` + "\u00a0" + `雷","facts":{"name":"买买提•艾力"}}`},
		},
		"empty lines": {"\n\nexternal_id\n\n1\n,\n  \n2\n", []string{`5 {"external_id":"1"}`, `8 {"external_id":"2"}`}},
		"quotation marks": {
			"external_id,name\n1,\"a, \"\"b\"\"\"\n\"2\",c\n", []string{`2 {"external_id":"1","name":"a, \"b\""}`, `3 {"external_id":"2","name":"c"}`},
		},
		"a cell of two lines": {
			"external_id,attr.a,name\n1,\"x\ny\",n\n2,z,m\n",
			[]string{`2 {"external_id":"1","name":"n","attributes":{"a":"x\ny"}}`, `4 {"external_id":"2","name":"m","attributes":{"a":"z"}}`},
		},
		"a quotation mark that is never closed invalidates only its row": {
			"external_id,name\n1,\"a\n2,b\n3,c\n", []string{"2 ! " + bad, `3 {"external_id":"2","name":"b"}`, `4 {"external_id":"3","name":"c"}`},
		},
		"two quotation marks that are never closed": {
			"external_id,name\n1,\"a\n2,b\n3,\"c\n4,d", []string{"2 ! " + bad, `3 {"external_id":"2","name":"b"}`, "4 ! " + bad, `5 {"external_id":"4","name":"d"}`},
		},
		"a quotation mark within a cell": {"external_id,name\n1,a\"b\"c\n2,d\n", []string{"2 ! " + bad, `3 {"external_id":"2","name":"d"}`}},
		"too many cells":                 {"external_id\n1,x\n2\n", []string{"2 ! the row has 2 cells, the header has 1", `3 {"external_id":"2"}`}},
		"no external_id":                 {"external_id,name\n,x\n2,y\n", []string{"2 ! external_id is empty", `3 {"external_id":"2","name":"y"}`}},
		"a line that is too long": {
			"external_id,name\n1," + strings.Repeat("x", 3*maxLine) + "\n2,b\n", []string{"2 ! " + errLineTooLong.Error(), `3 {"external_id":"2","name":"b"}`},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			src, err := NewCSV(strings.NewReader(c.text))
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(c.want, rows(t, src)); d != "" {
				t.Errorf("rows, -want +got:\n%s", d)
			}
		})
	}
	t.Run("a line that is not UTF-8 after the sample", func(t *testing.T) {
		t.Parallel()
		filler := strings.Repeat("1,a\n", sampleSize/4+10)
		src, err := NewCSV(strings.NewReader("external_id,name\n" + filler + "2,\xc0\xee\n3,c\n"))
		if err != nil {
			t.Fatal(err)
		}
		all := rows(t, src)
		if got := all[len(all)-2:]; !strings.HasSuffix(got[0], "! the line is not UTF-8") || !strings.HasSuffix(got[1], `{"external_id":"3","name":"c"}`) {
			t.Errorf("the last rows are %q, want a line that is not UTF-8 and a person", got)
		}
	})
}

func TestCSVRefuses(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ text, want string }{
		"an empty file":         {"", "the file is empty"},
		"empty lines":           {"\n\n", "the file is empty"},
		"no external_id":        {"name\n", "no column external_id"},
		"an unknown column":     {"external_id,email\n", `"email" is not a column`},
		"a column twice":        {"external_id,name,name\n", "name is repeated"},
		"a fact's name":         {"external_id,fact.Employee-No\n", "the name of a fact"},
		"an attribute's name":   {"external_id,attr.\n", "is not a column"},
		"semicolons":            {"external_id;name\n", "separate the columns with commas"},
		"tabs":                  {"external_id\tname\n", "separate the columns with commas"},
		"a quotation mark":      {"external_id,\"name\n", "quotation mark"},
		"GBK":                   {"external_id,name\n1001,\xc0\xee\xc0\xd7\n", "line 2 is not UTF-8, perhaps GBK"},
		"UTF-16":                {"\xff\xfee\x00x\x00", "UTF-16"},
		"UTF-16 without a mark": {"e\x00x\x00", "not in UTF-8"},
		"a workbook":            {"PK\x03\x04rest", "workbook"},
		"an archive":            {"\x1f\x8b\x08rest", "compressed"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := NewCSV(strings.NewReader(c.text)); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("NewCSV() error = %v, want %q", err, c.want)
			}
		})
	}
	t.Run("a text whose sample ends in a character is accepted", func(t *testing.T) {
		t.Parallel()
		for i := range 4 {
			text := strings.Repeat("x", i) + strings.Repeat("李", sampleSize/3+10)
			if _, err := newLines(strings.NewReader(text)); err != nil {
				t.Errorf("newLines() of a text shifted by %d: error = %v, want nil", i, err)
			}
		}
	})
}

func TestNDJSON(t *testing.T) {
	t.Parallel()
	src, err := NewNDJSON(strings.NewReader("\uFEFF{\"external_id\":\"1\"}\r\n\n  {\"a\":\r1}\nnot JSON\n" + strings.Repeat("x", maxLine+sampleSize) + "\n{}"))
	if err != nil {
		t.Fatal(err)
	}
	// The service checks whether a row is a person.
	want := []string{`1 {"external_id":"1"}`, `3 {"a": 1}`, "4 not JSON", "5 ! " + errLineTooLong.Error(), "6 {}"}
	if d := cmp.Diff(want, rows(t, src)); d != "" {
		t.Errorf("rows, -want +got:\n%s", d)
	}
}

func FuzzCSV(f *testing.F) {
	f.Add("external_id,name\n1,\"a\nb\"\n2,\"c\n")
	f.Add("external_id,fact.no,attr.x\r\n1,,\"\"\"\"\r\n")
	f.Fuzz(func(t *testing.T, text string) {
		src, err := NewCSV(strings.NewReader(text))
		if err != nil {
			return
		}
		last := 0
		for {
			row, err := src.Next()
			if errors.Is(err, io.EOF) {
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if row.Line <= last || row.End > int64(len(text)) || row.Err == nil && strings.ContainsAny(string(row.JSON), "\r\n") {
				t.Errorf("row %+v after line %d, want a later line within the file and JSON on one line", row, last)
			}
			last = row.Line
		}
	})
}

package auth_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/yufu-auth/yufu/pkg/auth"
)

func TestCleanPhone(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"+8613800001001": "+8613800001001", "13800001001": "+8613800001001", " 138-0000 1001 ": "+8613800001001",
		"008613800001001": "+8613800001001", "＋８６１３８００００１００１": "+8613800001001", "+86 (138) 0000.1001": "+8613800001001",
		"+1 202-555-0123": "+12025550123", "+852 6123 4567": "+85261234567", "00852 61234567": "+85261234567",
		"+862112345678": "+862112345678",
		// In forms that people paste and that staff files have.
		"8613800001001": "+8613800001001", "86-138-0000-1001": "+8613800001001", "86 13800001001": "+8613800001001", "(86)13800001001": "+8613800001001",
		"(+86)138 0000 1001": "+8613800001001", "（0086）138－0000－1001": "+8613800001001", "\u202d+86 138 0000 1001\u202c": "+8613800001001",
		"138\u00a00000\u202f1001": "+8613800001001", "138\u20130000\u20141001": "+8613800001001", "138\u22120000\u20111001": "+8613800001001",
		"\ufeff13800001001\u200b": "+8613800001001", "138\u00ad0000\u200e1001": "+8613800001001", "138.0000·1001": "+8613800001001", "138/0000/1001": "+8613800001001",
		"1３８０００0１００１": "+8613800001001", "138\u30000000\t1001": "+8613800001001", "﹢8613800001001": "+8613800001001",
		// The country of these numbers is unknown.
		"": "", "1001": "", "12025550123": "", "8612025550123": "", "861380000100": "", "86861380000100": "", "1.38E+10": "", "13800001001.0": "", "\u200e": "", "61234567": "", "+0123456789": "", "+86138": "", "+123456": "",
		"+1234567890123456": "", "13800001001x": "", "138+00001001": "", "++8613800001001": "", "٣٨٠٠٠٠١٠٠١": "",
		strings.Repeat("1", 100): "", "+8613800001001\n": "+8613800001001", "138\x0000001001": "",
	} {
		got, err := auth.CleanPhone(in)
		if got != want || (err == nil) != (want != "") || err != nil && !errors.Is(err, auth.InvalidRequest) {
			t.Errorf("CleanPhone(%q) = %q, %v, want %q", in, got, err, want)
		}
	}
}

func FuzzCleanPhone(f *testing.F) {
	for _, s := range []string{"+8613800001001", "13800001001", "0086 138 0000 1001", "＋１"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := auth.CleanPhone(s)
		if err != nil {
			return
		}
		if !auth.ValidPhone(got) {
			t.Errorf("CleanPhone(%q) = %q, which is not a valid number", s, got)
		}
		if again, err := auth.CleanPhone(got); again != got || err != nil {
			t.Errorf("CleanPhone(%q) = %q, and again %q, %v", s, got, again, err)
		}
	})
}

func TestMasks(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{"+8613800001001": "+86138****1001", "+6591234567": "+65****4567", "+1234567": "********", "": ""} {
		if got := auth.MaskPhone(in); got != want {
			t.Errorf("MaskPhone(%q) = %q, want %q", in, got, want)
		}
	}
	for in, want := range map[string]string{
		"李雷": "李*", "韩梅梅": "韩*梅", "欧阳锋锋": "欧**锋", "李": "*", "": "", " 李雷 ": "李*", "Alexander Hamilton": "A****n",
	} {
		if got := auth.MaskName(in); got != want {
			t.Errorf("MaskName(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestCleanAttributes(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		``: `{}`, ` null `: `{}`, `{}`: `{}`, ` { "b" : 1.50, "a":[{"z":1,"y":"<&>"}] } `: `{"a":[{"y":"<&>","z":1}],"b":1.50}`,
		`{"n":12345678901234567890}`: `{"n":12345678901234567890}`,
		`[]`:                         "", `"x"`: "", `{`: "", `{} {}`: "", `{"a":"\u0000"}`: "", "{\"a\":\"\xff\"}": "",
		`{"a":"` + strings.Repeat("x", 4089) + `"}`: "", `{"a":"` + strings.Repeat("x", 4088) + `"}`: `{"a":"` + strings.Repeat("x", 4088) + `"}`,
	} {
		got, err := auth.CleanAttributes([]byte(in))
		if string(got) != want || (err == nil) != (want != "") {
			t.Errorf("CleanAttributes(%.60s) = %.60s, %v, want %.60s", in, got, err, want)
		}
	}
}

func FuzzCleanAttributes(f *testing.F) {
	for _, s := range []string{`{"a":1}`, `{"a":{"b":[null,true,"x"]}}`, `{"a":"\u0000"}`, `null`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := auth.CleanAttributes(b)
		if err != nil {
			return
		}
		if !json.Valid(got) || got[0] != '{' || len(got) > auth.MaxAttributesLen {
			t.Errorf("CleanAttributes(%q) = %q, which is not valid", b, got)
		}
		if again, err := auth.CleanAttributes(got); string(again) != string(got) || err != nil {
			t.Errorf("CleanAttributes(%q) = %q, and again %q, %v", b, got, again, err)
		}
	})
}

func TestCleanPersonTexts(t *testing.T) {
	t.Parallel()
	for in, ok := range map[string]bool{"1001": true, " 1001 ": true, "": false, " ": false, "a\nb": false, "\xff": false, strings.Repeat("号", 255): true, strings.Repeat("号", 256): false} {
		if got, err := auth.CleanExternalID(in); (err == nil) != ok || ok && got != strings.TrimSpace(in) {
			t.Errorf("CleanExternalID(%.20q) = %.20q, %v", in, got, err)
		}
		if _, err := auth.CleanPersonName(in); (err == nil) != (ok || strings.TrimSpace(in) == "") {
			t.Errorf("CleanPersonName(%.20q) error = %v", in, err)
		}
	}
}

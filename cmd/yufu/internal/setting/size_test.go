package setting

import "testing"

func TestSize(t *testing.T) {
	for text, want := range map[string]Size{
		"0": 0, "1": 1, "1000": 1000, "1KiB": 1 << 10, "64MiB": 64 << 20, "16GiB": 16 << 30, "1025KiB": 1025 << 10, "-1MiB": -1 << 20,
	} {
		var got Size
		if err := got.UnmarshalText([]byte(text)); err != nil || got != want {
			t.Errorf("UnmarshalText(%q) = %d, %v, want %d", text, got, err, want)
		}
		if s := want.String(); s != text {
			t.Errorf("Size(%d).String() = %q, want %q", want, s, text)
		}
	}
	for _, bad := range []string{"", "MiB", "64M", "64MB", "64 MiB", "64mib", "1.5GiB", "1e3", "0x10", "9999999999GiB", "64MiBMiB"} {
		var got Size
		wantError(t, got.UnmarshalText([]byte(bad)), "must be a size such as 64MiB", `got "`+bad+`"`)
	}
	for n, want := range map[int64]string{1<<20 - 1: "must be between 1MiB and 1GiB, got 1048575", 17 << 30: "must be between 1MiB and 1GiB, got 17GiB"} {
		wantError(t, bounds{min: "1MiB", max: "1GiB", size: true}.check("YUFU_TOKEN_MEMORY", n), "YUFU_TOKEN_MEMORY "+want)
	}
}

package cutoff_test

import (
	"bytes"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/yufu-auth/yufu/pkg/bearer/cutoff"
)

// TestSessionNames checks that a session's cutoff hits the tokens with exactly its name,
// however similar another name is.
func TestSessionNames(t *testing.T) {
	t.Parallel()
	const id = "0190abcd-0000-7c00-8000-00000000000a"
	names := []string{
		id, strings.ToUpper(id), strings.ReplaceAll(id, "-", ""), "{" + id + "}", id + " ", id[1:], id[:35] + "g", id[:35] + "-",
		"0190abc-d0000-7c00-8000-00000000000a", "-190abcd-0000-7c00-8000-00000000000a", strings.Repeat("-", 36), strings.Repeat("0", 36), "s", "",
	}
	for _, cut := range names {
		s := setOf(session(cut, 0))
		if all := s.All(); len(all) != 1 || all[0] != session(cut, 0) {
			t.Errorf("All() = %+v, want the cutoff of session %q", all, cut)
		}
		for _, name := range names {
			if got, want := s.Hits(cutoff.Token{Session: name, Ver: 1}), name == cut; got != want {
				t.Errorf("cutoff of session %q: Hits(session %q) = %t, want %t", cut, name, got, want)
			}
		}
	}
}

// FuzzSession compares the two ways to write the event of a session's cutoff, and checks
// that its cutoff is the same after a round trip through the set.
func FuzzSession(f *testing.F) {
	f.Add([]byte("0123456789abcdef"), int64(0), "t1.5")
	f.Add([]byte("\x00\xff\x10\xa0\x0a---------aF"), int64(7), "")
	f.Fuzz(func(t *testing.T, raw []byte, ver int64, id string) {
		if len(raw) != 16 || strings.ContainsAny(id, "\r\n\x00") {
			return
		}
		var sid [16]byte
		copy(sid[:], raw)
		x := hex.EncodeToString(raw)
		c := session(strings.Join([]string{x[:8], x[8:12], x[12:16], x[16:20], x[20:]}, "-"), ver)
		got := cutoff.AppendSession([]byte("before"), sid, ver, []byte(id))
		if want := cutoff.AppendEvent([]byte("before"), c.Event(id)); !bytes.Equal(got, want) {
			t.Errorf("AppendSession() = %q, want %q", got, want)
		}
		if all := setOf(c).All(); len(all) != 1 || all[0] != c {
			t.Errorf("All() = %+v, want %+v", all, c)
		}
	})
}

func TestAppendSessionAllocations(t *testing.T) {
	dst, id := make([]byte, 0, 512), []byte("timeline.1")
	if n := testing.AllocsPerRun(100, func() { cutoff.AppendSession(dst, [16]byte{1}, 7, id) }); n != 0 {
		t.Errorf("AppendSession() makes %v allocations, want 0", n)
	}
}

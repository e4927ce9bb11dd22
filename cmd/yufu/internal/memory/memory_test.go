package memory

import (
	"errors"
	"math"
	"runtime/debug"
	"testing"

	"github.com/KimMachineGun/automemlimit/memlimit"
)

// The settings are of the process, so these tests do not run in parallel.
func TestTune(t *testing.T) {
	const size = 1000 << 20
	for name, tc := range map[string]struct {
		environ     map[string]string
		size        memlimit.Provider
		wantLimit   int64
		wantPercent int
	}{
		"the limit is 80 percent of the memory":          {nil, memlimit.Limit(size), size / 10 * 8, 400},
		"GOGC in the environment wins":                   {map[string]string{"GOGC": "50"}, memlimit.Limit(size), math.MaxInt64, 100},
		"GOMEMLIMIT in the environment wins":             {map[string]string{"GOMEMLIMIT": "1GiB"}, memlimit.Limit(size), math.MaxInt64, 100},
		"without a known size nothing changes":           {nil, func() (uint64, error) { return 0, errors.New("unknown") }, math.MaxInt64, 100},
		"a size without a value changes nothing":         {nil, memlimit.Limit(0), math.MaxInt64, 100},
		"a size that is not a number of bytes is unused": {nil, memlimit.Limit(math.MaxUint64), math.MaxInt64, 100},
	} {
		t.Run(name, func(t *testing.T) {
			limit, percent := debug.SetMemoryLimit(math.MaxInt64), debug.SetGCPercent(100)
			defer func() {
				debug.SetMemoryLimit(limit)
				debug.SetGCPercent(percent)
			}()
			tune(func(name string) string { return tc.environ[name] }, tc.size)
			if got := debug.SetMemoryLimit(-1); got != tc.wantLimit {
				t.Errorf("the memory limit is %d, want %d", got, tc.wantLimit)
			}
			if got := debug.SetGCPercent(100); got != tc.wantPercent {
				t.Errorf("GOGC is %d, want %d", got, tc.wantPercent)
			}
		})
	}
	t.Run("the size of this machine or its container is known", func(t *testing.T) {
		size, err := memlimit.ApplyFallback(memlimit.FromCgroup, memlimit.FromSystem)()
		if err != nil || size < 1<<20 {
			t.Errorf("size = %d, error = %v; want some megabytes", size, err)
		}
	})
}

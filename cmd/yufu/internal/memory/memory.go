// Package memory sets when the garbage collector of the Go runtime runs.
//
// It owns GOGC and GOMEMLIMIT, unless the environment sets one of them. It does not own the
// bounds of caches.
package memory

import (
	"math"
	"os"
	"runtime/debug"

	"github.com/KimMachineGun/automemlimit/memlimit"
)

const (
	// gcPercent lets the heap grow to five times its live part before it is collected, so
	// that collections take less processor time. The runtime's default is 100.
	gcPercent = 400
	// share is the part of the memory that the Go runtime may take before it collects more
	// often. The rest is for what it does not count, for example SQLite's files in memory.
	share = 0.8
)

// Tune makes the garbage collector run less often while there is memory: up to 80 % of the
// limit of the container (cgroup) or, without one, of the machine. It changes nothing if
// the environment sets GOGC or GOMEMLIMIT, or if the size of the memory is unknown.
func Tune() { tune(os.Getenv, memlimit.ApplyFallback(memlimit.FromCgroup, memlimit.FromSystem)) }

func tune(getenv func(string) string, size memlimit.Provider) {
	if getenv("GOGC") != "" || getenv("GOMEMLIMIT") != "" {
		return
	}
	limit, err := memlimit.ApplyRatio(size, share)()
	if err != nil || limit == 0 || limit > math.MaxInt64 {
		return
	}
	debug.SetMemoryLimit(int64(limit))
	debug.SetGCPercent(gcPercent)
}

package web

import (
	"encoding/binary"
	"net/netip"
	"runtime"
	"sync"
	"testing"
	"time"
)

func TestLimiterFlood(t *testing.T) {
	t.Parallel()
	const (
		at    = 4 // goroutines at once
		slack = 1 << 12
	)
	now := time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)
	l := NewLimiter[netip.Prefix](120)
	defer l.Close()
	// A client that has spent its allowance and keeps sending requests.
	spent := Network(netip.MustParseAddr("198.51.100.1"))
	for l.Wait(spent, now) == 0 {
		l.Charge(spent, now)
	}
	// The cache expires by the real clock: on a slow machine the flood may take longer
	// than a key is remembered after its last event.
	l.keys.SetExpiresAfter(spent, time.Hour)
	peaks := make([]int, at)
	var sources sync.WaitGroup
	for g := range at {
		sources.Go(func() {
			for i := g; i < flood; i += at {
				var ip [16]byte
				copy(ip[:], "\x20\x01\x0d\xb8")
				binary.BigEndian.PutUint32(ip[4:], uint32(i))
				client := Network(netip.AddrFrom16(ip))
				if wait := l.Wait(client, now); wait != 0 {
					t.Errorf("the new client %s has to wait %s", client, wait)
					return
				}
				l.Charge(client, now)
				if i/at%256 == 0 {
					peaks[g] = max(peaks[g], l.keys.EstimatedSize())
					if l.Wait(spent, now) == 0 {
						t.Error("the flood removed the limited client")
						return
					}
				}
			}
		})
	}
	sources.Wait()
	for _, n := range peaks {
		if n > maxLimitedKeys+slack {
			t.Errorf("%d clients were remembered at once, want at most %d", n, maxLimitedKeys)
		}
	}
	l.keys.CleanUp()
	n := l.keys.EstimatedSize()
	if n > maxLimitedKeys {
		t.Errorf("%d clients are remembered, want at most %d", n, maxLimitedKeys)
	}
	var with, without runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&with)
	runtime.KeepAlive(l)
	l.keys.InvalidateAll()
	l.keys.CleanUp()
	runtime.GC()
	runtime.ReadMemStats(&without)
	t.Logf("%d clients remembered, peaks %d; %d bytes each", n, peaks, (int64(with.HeapAlloc)-int64(without.HeapAlloc))/int64(max(n, 1)))

	// The limiter still works.
	client := Network(netip.MustParseAddr("192.0.2.1"))
	for i := 0; l.Wait(client, now) == 0; i++ {
		if l.Charge(client, now); i > 120 {
			t.Fatal("after the flood the client is not limited")
		}
	}
}

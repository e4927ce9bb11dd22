package netreasontest_test

import (
	"errors"
	"net"
	"syscall"
	"testing"

	"github.com/yufu-auth/yufu/pkg/netreason/netreasontest"
)

func TestUnusedAddr(t *testing.T) {
	t.Parallel()
	addr := netreasontest.UnusedAddr(t)
	if conn, err := net.Dial("tcp", addr); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("somebody listens: %v, %v", conn, err)
	}
	if l, err := net.Listen("tcp", addr); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("a test beside this one could be given the address: %v, %v", l, err)
	}
}

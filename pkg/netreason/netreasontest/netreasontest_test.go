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
		t.Errorf("Dial() = %v, %v, want an error: a listener uses the address", conn, err)
	}
	if l, err := net.Listen("tcp", addr); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("Listen() = %v, %v, want an error: another test could get the address", l, err)
	}
}

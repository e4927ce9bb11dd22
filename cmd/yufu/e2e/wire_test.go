package e2e

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"time"
)

// wire is a connection to a service on which a test sends text that no HTTP client sends.
type wire struct {
	s    *service
	conn *net.TCPConn
	r    *bufio.Reader
}

// dial opens a connection, which is closed at the end of the test at the latest.
func (s *service) dial() (*wire, error) {
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.base, "http://"))
	if err != nil {
		return nil, err
	}
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		conn.Close()
		return nil, err
	}
	return &wire{s, conn.(*net.TCPConn), bufio.NewReader(conn)}, nil
}

func (w *wire) close() { _ = w.conn.Close() }

// send writes as much as the other side accepts: a server may answer and hang up before
// it has read everything.
func (w *wire) send(text string) error {
	_, err := io.WriteString(w.conn, text)
	if hungUp(err) {
		return nil
	}
	return err
}

// answer reads one answer to a request with the method.
func (w *wire) answer(method, where string) (*answer, error) {
	req := &http.Request{Method: method}
	resp, err := http.ReadResponse(w.r, req)
	for err == nil && resp.StatusCode == http.StatusContinue {
		resp, err = http.ReadResponse(w.r, req)
	}
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil && !(resp.ContentLength < 0 && hungUp(err)) {
		return nil, fmt.Errorf("the answer is truncated: %w", err)
	}
	a := &answer{Status: resp.StatusCode, Header: resp.Header, Body: string(body)}
	w.s.read(a, where, true)
	return a, nil
}

// closed waits until the server hangs up, and returns an error if it sends data before.
func (w *wire) closed() error {
	rest, err := io.ReadAll(w.r)
	switch {
	case len(rest) > 0:
		return fmt.Errorf("the server sent %q before closing", rest)
	case err != nil && !hungUp(err):
		return fmt.Errorf("the connection stays open: %w", err)
	}
	return nil
}

// hungUp reports whether the error means that the other side closed the connection.
func hungUp(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

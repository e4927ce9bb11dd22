package e2e

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// field is a header on the wire, valid or not.
type field struct{ name, value string }

// rawClient sends requests to the API through a proxy, byte for byte. Unlike the clients
// of net/http it does not check or fold headers. It keeps its connection until the proxy
// closes it.
type rawClient struct {
	t        *testing.T
	p        *proxy
	protocol string // http/1.1 or h2

	conn   *tls.Conn
	reader *bufio.Reader
	framer *http2.Framer
	stream uint32
}

// raw returns a client that speaks one protocol.
func (p *proxy) raw(t *testing.T, protocol string) *rawClient {
	t.Helper()
	c := &rawClient{t: t, p: p, protocol: protocol}
	t.Cleanup(c.hangUp)
	return c
}

func (c *rawClient) hangUp() {
	if c.conn != nil {
		_ = c.conn.Close()
	}
	c.conn = nil
}

func (c *rawClient) dial() {
	c.t.Helper()
	plain, err := c.p.dial(c.t.Context(), "", "")
	if err != nil {
		c.t.Fatal(err)
	}
	c.conn = tls.Client(plain, &tls.Config{InsecureSkipVerify: true, ServerName: apiHost, NextProtos: []string{c.protocol}}) // the server belongs to this test
	ctx, cancel := context.WithTimeout(c.t.Context(), patience)
	defer cancel()
	if err := c.conn.HandshakeContext(ctx); err != nil {
		c.t.Fatal(err)
	}
	// A proxy without ALPN speaks HTTP/1.1.
	if got := c.conn.ConnectionState().NegotiatedProtocol; got != c.protocol && (got != "" || c.protocol != "http/1.1") {
		c.t.Fatalf("the proxy speaks %q, want %q", got, c.protocol)
	}
	c.reader = bufio.NewReader(c.conn)
	if c.protocol != "h2" {
		return
	}
	if _, err := io.WriteString(c.conn, http2.ClientPreface); err != nil {
		c.t.Fatal(err)
	}
	c.framer, c.stream = http2.NewFramer(c.conn, c.reader), 1
	c.framer.AllowIllegalWrites = true
	c.framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	if err := c.framer.WriteSettings(); err != nil {
		c.t.Fatal(err)
	}
}

// get requests /orders. The status is 0 when the proxy closes the connection.
func (c *rawClient) get(fields ...field) (status int, body []byte) {
	c.t.Helper()
	if c.conn == nil {
		c.dial()
	}
	send := c.sendH1
	if c.protocol == "h2" {
		send = c.sendH2
	}
	status, body, err := send(fields)
	if timeout := net.Error(nil); errors.As(err, &timeout) && timeout.Timeout() {
		c.t.Fatal(err)
	}
	if err != nil {
		status = 0
	}
	if status != http.StatusOK {
		c.hangUp()
	}
	return status, body
}

func (c *rawClient) sendH1(fields []field) (int, []byte, error) {
	var request bytes.Buffer
	fmt.Fprintf(&request, "GET /orders HTTP/1.1\r\nHost: %s\r\n", apiHost)
	for _, f := range fields {
		fmt.Fprintf(&request, "%s: %s\r\n", f.name, f.value)
	}
	request.WriteString("\r\n")
	if _, err := c.conn.Write(request.Bytes()); err != nil {
		return 0, nil, err
	}
	resp, err := http.ReadResponse(c.reader, nil)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if resp.Close {
		defer c.hangUp()
	}
	return resp.StatusCode, body, err
}

func (c *rawClient) sendH2(fields []field) (status int, body []byte, err error) {
	var block bytes.Buffer
	encode := hpack.NewEncoder(&block)
	for _, f := range append([]field{{":method", http.MethodGet}, {":scheme", "https"}, {":authority", apiHost}, {":path", "/orders"}}, fields...) {
		if err := encode.WriteField(hpack.HeaderField{Name: f.name, Value: f.value, Sensitive: true}); err != nil {
			return 0, nil, err
		}
	}
	id := c.stream
	c.stream += 2
	if err := c.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block.Bytes(), EndStream: true, EndHeaders: true}); err != nil {
		return 0, nil, err
	}
	for {
		frame, err := c.framer.ReadFrame()
		if err != nil {
			return 0, nil, err
		}
		switch f := frame.(type) {
		case *http2.SettingsFrame:
			if !f.IsAck() {
				err = c.framer.WriteSettingsAck()
			}
		case *http2.GoAwayFrame:
			return 0, nil, fmt.Errorf("the proxy closed the connection: %s", f.ErrCode)
		case *http2.RSTStreamFrame:
			return 0, nil, fmt.Errorf("the proxy closed the stream: %s", f.ErrCode)
		case *http2.MetaHeadersFrame:
			status, err = strconv.Atoi(f.PseudoValue("status"))
		case *http2.DataFrame:
			body = append(body, f.Data()...)
			err = c.framer.WriteWindowUpdate(0, max(uint32(len(f.Data())), 1)) // a frame is short
		}
		if err != nil {
			return 0, nil, err
		}
		if frame.Header().StreamID == id && frame.Header().Flags.Has(http2.FlagDataEndStream) {
			return status, body, nil
		}
	}
}

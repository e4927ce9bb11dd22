package web

import (
	"bytes"
	"sync"
)

// maxPooled bounds the buffers that are used again, in bytes. Larger ones are rare.
const maxPooled = 16 << 10

var buffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// newBuffer returns an empty buffer. [freeBuffer] ends its use.
func newBuffer() *bytes.Buffer { return buffers.Get().(*bytes.Buffer) }

func freeBuffer(b *bytes.Buffer) {
	if b.Cap() > maxPooled {
		return
	}
	clear(b.Bytes()) // no token waits in the pool
	b.Reset()
	buffers.Put(b)
}

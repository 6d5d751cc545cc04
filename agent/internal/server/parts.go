// SPDX-License-Identifier: Apache-2.0

package server

import (
	"io"
	"net"
	"net/http"
)

// parts is an answer that is encoded already, in parts that follow each other. They are not
// changed, since other answers may share them.
type parts [][]byte

// Read reads what is left of p, for an io.Copy that does not know it.
func (p *parts) Read(b []byte) (n int, err error) {
	for len(*p) > 0 && n < len(b) {
		first := &(*p)[0]
		k := copy(b[n:], *first)
		n += k
		if *first = (*first)[k:]; len(*first) == 0 {
			*p = (*p)[1:]
		}
	}
	if n == 0 && len(b) > 0 {
		return 0, io.EOF
	}
	return n, nil
}

// writeParts sends p in one system call, without copying it. The buffers of net/http are smaller
// than an answer with evidence: they would split each into several writes. So the connection
// keeps the headers back until it gets the parts, through [io.ReaderFrom].
func (s *Server) writeParts(w http.ResponseWriter, c *conn, p parts) error {
	size := 0
	for _, b := range p {
		size += len(b)
	}
	rest := append(parts(nil), p...) // reading takes them off
	control := s.writeHeader(w, http.StatusOK, "application/json", size)
	c.holding = true
	control.Flush()
	io.Copy(w, &rest) // a peer that went away needs no answer
	c.release()
	return nil
}

// mostHeld is how many bytes of headers a connection keeps back. Its buffer for them stays.
const mostHeld = 4 << 10

// Write keeps b for later while the connection is holding. Only net/http's goroutine of the
// connection, which runs the handler, writes.
func (c *conn) Write(b []byte) (int, error) {
	if c.holding && len(c.held)+len(b) <= mostHeld {
		c.held = append(c.held, b...)
		return len(b), nil
	}
	if err := c.release(); err != nil {
		return 0, err
	}
	return c.UnixConn.Write(b)
}

// ReadFrom writes what is held and then r, which is of [Server.writeParts].
func (c *conn) ReadFrom(r io.Reader) (int64, error) {
	p, ok := r.(*parts)
	if !ok {
		return io.Copy(struct{ io.Writer }{c}, r)
	}
	held := len(c.held)
	all := append(net.Buffers{c.held}, *p...)
	c.holding, *p = false, nil
	n, err := all.WriteTo(c.UnixConn)
	c.held = c.held[:0]
	return max(0, n-int64(held)), err
}

// release ends the holding, and writes what is held.
func (c *conn) release() (err error) {
	c.holding = false
	if len(c.held) > 0 {
		_, err = c.UnixConn.Write(c.held)
		c.held = c.held[:0]
	}
	return err
}

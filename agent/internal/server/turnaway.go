// SPDX-License-Identifier: Apache-2.0

package server

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/internal/strictjson"
)

// turnAway answers the first request on c with p and closes c. That costs little: the peer
// gets two seconds, and a few kilobytes are read. If too many connections are being turned
// away, it writes the answer without reading.
func (t *connections) turnAway(c *net.UnixConn, p *api.Problem) {
	answer := rawProblem(p)
	select {
	case t.away <- struct{}{}:
	default:
		c.SetWriteDeadline(time.Now().Add(10 * time.Millisecond))
		c.Write(answer)
		c.Close()
		return
	}
	go func() {
		defer func() { <-t.away }()
		defer c.Close()
		c.SetDeadline(time.Now().Add(t.patience))
		// If the answer came before the request, some clients would still be writing, and
		// report a broken pipe instead of the reason.
		readHeader(c)
		c.Write(answer)
		c.CloseWrite()
		io.Copy(io.Discard, io.LimitReader(c, api.CallEvidence.Body))
	}()
}

// readHeader reads up to the empty line that ends the headers, at most 8 KiB.
func readHeader(r io.Reader) {
	buf := make([]byte, 0, 8<<10)
	for len(buf) < cap(buf) {
		n, err := r.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		if err != nil || bytes.Contains(buf, []byte("\r\n\r\n")) {
			return
		}
	}
}

func rawProblem(p *api.Problem) []byte {
	body, err := strictjson.Encode(p)
	if err != nil {
		body = []byte("{}")
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "HTTP/1.1 %d %s\r\nContent-Type: %s\r\nCache-Control: no-store\r\n", p.Status, http.StatusText(p.Status), api.ProblemType)
	if p.RetryAfter > 0 {
		fmt.Fprintf(&b, "Retry-After: %d\r\n", p.RetryAfter)
	}
	fmt.Fprintf(&b, "Content-Length: %d\r\nConnection: close\r\n\r\n%s", len(body), body)
	return b.Bytes()
}

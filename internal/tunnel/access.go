// SPDX-License-Identifier: Apache-2.0

package tunnel

import (
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cvm-agentd/agentd/internal/strictjson"
)

// accessQueue is how many lines wait for a slow disk. Further ones are lost, and counted: a log that
// cannot be written does not hold up connections.
const accessQueue = 1024

// lastLines is how long the lines of the end have to be written.
const lastLines = 5 * time.Second

// accessLog writes one line for each connection.
type accessLog struct {
	lines chan []byte
	done  chan struct{} // closed when all lines are written
	lost  atomic.Uint64

	mu sync.Mutex // guards to, for the time of a line
	to io.WriteCloser
}

// newAccessLog returns a log that writes to w; nil: nowhere.
func newAccessLog(w io.WriteCloser) *accessLog {
	l := &accessLog{lines: make(chan []byte, accessQueue), done: make(chan struct{}), to: w}
	go l.run()
	return l
}

func (l *accessLog) run() {
	defer close(l.done)
	for line := range l.lines {
		l.mu.Lock()
		if l.to != nil {
			if _, err := l.to.Write(line); err != nil {
				l.lost.Add(1)
			}
		}
		l.mu.Unlock()
	}
}

// replace has later lines written to w, and closes what was before.
func (l *accessLog) replace(w io.WriteCloser) {
	l.mu.Lock()
	before := l.to
	l.to = w
	l.mu.Unlock()
	if before != nil {
		before.Close()
	}
}

// write writes the line of a connection.
func (l *accessLog) write(r *Record) {
	b, err := strictjson.EncodeHex(r)
	if err == nil {
		select {
		case l.lines <- append(b, '\n'):
			return
		default:
		}
	}
	l.lost.Add(1)
}

// close writes what waits, and closes the file. Nothing may be written afterwards.
func (l *accessLog) close() {
	close(l.lines)
	select {
	case <-l.done:
		l.replace(nil)
	case <-time.After(lastLines): // the disk does not answer
	}
}

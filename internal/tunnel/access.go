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
	lines chan []byte   // nil: there is a file to close
	done  chan struct{} // closed when all lines are written
	lost  atomic.Uint64

	mu     sync.Mutex // guards the two below, and is not held while a disk is waited for
	to     io.WriteCloser
	before []io.WriteCloser // that were replaced, to be closed; a line may be on its way to one
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
		to := l.current()
		if line == nil || to == nil {
			continue
		}
		if _, err := to.Write(line); err != nil {
			l.lost.Add(1)
		}
	}
	l.swap(nil)
	l.current()
}

// current returns what lines are written to, and closes what was before.
func (l *accessLog) current() io.WriteCloser {
	l.mu.Lock()
	to, before := l.to, l.before
	l.before = nil
	l.mu.Unlock()
	for _, w := range before {
		w.Close()
	}
	return to
}

func (l *accessLog) swap(w io.WriteCloser) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.to != nil {
		l.before = append(l.before, l.to)
	}
	l.to = w
}

// replace has later lines written to w, and what was before closed. It waits for no disk: a reload
// and the end of the process would wait with it.
func (l *accessLog) replace(w io.WriteCloser) {
	l.swap(w)
	select {
	case l.lines <- nil:
	default: // a line that waits has it closed
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

// close has what waits written, and the file closed. Nothing may be written or replaced afterwards.
func (l *accessLog) close() {
	close(l.lines)
	select {
	case <-l.done:
	case <-time.After(lastLines): // the disk does not answer
	}
}

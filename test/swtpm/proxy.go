// SPDX-License-Identifier: Apache-2.0

package swtpm

import (
	"encoding/binary"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"

	"github.com/google/go-tpm/tpm2"
)

// headerSize is that of commands and responses (TPM 2.0 Part 1, section 18).
const headerSize = 10

// Proxy is a unix socket in front of a TPM that any number of clients may connect to,
// one after the other or at once, without a resource manager: what one leaves in the
// TPM the next one finds. It injects the faults it is told to.
type Proxy struct {
	tpm  *TPM
	path string

	mu       sync.Mutex
	fault    func(command []byte) Fault
	commands []tpm2.TPMCC
	conns    map[net.Conn]struct{}
}

// Fault is what a proxy does with a command; the zero value passes it on.
type Fault struct {
	Code    tpm2.TPMRC          // answer with this code, the TPM does not see the command
	Hang    <-chan struct{}     // hold the answer back until it is closed
	Rewrite func([]byte) []byte // change the answer
	Cut     bool                // close the connection after the answer
}

// Listen makes a proxy.
func (t *TPM) Listen() *Proxy {
	t.tb.Helper()
	// Not in TempDir: a socket's path is at most 107 bytes long, a test's name may be longer.
	dir, err := os.MkdirTemp("", "tpm")
	if err != nil {
		t.tb.Fatal(err)
	}
	p := &Proxy{tpm: t, path: filepath.Join(dir, "socket"), conns: make(map[net.Conn]struct{})}
	l, err := net.Listen("unix", p.path)
	if err != nil {
		t.tb.Fatal(err)
	}
	t.tb.Cleanup(func() {
		l.Close()
		p.Disconnect()
		os.RemoveAll(dir)
	})
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			p.mu.Lock()
			p.conns[c] = struct{}{}
			p.mu.Unlock()
			go p.serve(c)
		}
	}()
	return p
}

// Address returns the proxy's address in the form of tpm.Open.
func (p *Proxy) Address() string { return "unix:" + p.path }

// Inject sets what is done with each command from now on; nil passes all on.
func (p *Proxy) Inject(f func(command []byte) Fault) {
	p.mu.Lock()
	p.fault = f
	p.mu.Unlock()
}

// Commands lists the commands that arrived.
func (p *Proxy) Commands() []tpm2.TPMCC {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]tpm2.TPMCC(nil), p.commands...)
}

// Disconnect ends all connections, as a client that is killed does.
func (p *Proxy) Disconnect() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		c.Close()
	}
}

func (p *Proxy) serve(c net.Conn) {
	defer func() {
		c.Close()
		p.mu.Lock()
		delete(p.conns, c)
		p.mu.Unlock()
	}()
	for {
		command, err := readFrame(c)
		if err != nil {
			return
		}
		f := p.arrive(command)
		var rsp []byte
		if f.Code != 0 {
			rsp = Response(f.Code)
		} else if rsp, err = p.tpm.Send(command); err != nil {
			return
		}
		if f.Hang != nil {
			<-f.Hang
		}
		if f.Rewrite != nil {
			rsp = f.Rewrite(rsp)
		}
		if _, err := c.Write(rsp); err != nil || f.Cut {
			return
		}
	}
}

func (p *Proxy) arrive(command []byte) Fault {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.commands = append(p.commands, CommandCode(command))
	if p.fault == nil {
		return Fault{}
	}
	return p.fault(command)
}

// CommandCode is the code in the header of a command.
func CommandCode(command []byte) tpm2.TPMCC {
	return tpm2.TPMCC(binary.BigEndian.Uint32(command[6:]))
}

// Response is a response that is a code and nothing else.
func Response(rc tpm2.TPMRC) []byte {
	b := binary.BigEndian.AppendUint16(nil, uint16(tpm2.TPMSTNoSessions))
	b = binary.BigEndian.AppendUint32(b, headerSize)
	return binary.BigEndian.AppendUint32(b, uint32(rc))
}

func readFrame(r io.Reader) ([]byte, error) {
	b := make([]byte, headerSize, 4096)
	if _, err := io.ReadFull(r, b); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(b[2:])
	if n < headerSize || n > 4096 {
		return nil, io.ErrUnexpectedEOF
	}
	b = b[:n]
	_, err := io.ReadFull(r, b[headerSize:])
	return b, err
}

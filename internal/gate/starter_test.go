// SPDX-License-Identifier: Apache-2.0

package gate

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// A process that answers for the gate must start nothing in a guarded folder: while the kernel
// waits for the answer, the thread that starts it stops, and with it the garbage collector. So
// another process starts the programs of the tests.
const asStarter = "AGENTD_TEST_STARTER"

// command is what the starter is asked for, and started what became of it.
type (
	command struct {
		Path   string
		Args   []string
		Rounds int        // of measured starts, if there are rows
		Rows   [][]string // see median
	}
	started struct {
		PID   int
		Out   string
		Errno syscall.Errno
		Error string
		Took  []time.Duration // see median
	}
)

var starter struct {
	mu  sync.Mutex
	in  io.Writer
	out *bufio.Scanner
}

func TestMain(m *testing.M) {
	if os.Getenv(asStarter) != "" {
		startAll()
		return
	}
	c := exec.Command("/proc/self/exe")
	c.Env = append(os.Environ(), asStarter+"=1")
	c.Stderr = os.Stderr
	in, err := c.StdinPipe()
	if err != nil {
		panic(err)
	}
	out, err := c.StdoutPipe()
	if err != nil {
		panic(err)
	}
	if err := c.Start(); err != nil {
		panic(err)
	}
	starter.in, starter.out = in, bufio.NewScanner(out)
	code := m.Run()
	in.Close()
	_ = c.Wait()
	os.Exit(code)
}

// startAll starts what it reads, one after the other, until the end of its input.
func startAll() {
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		var x command
		if err := json.Unmarshal(lines.Bytes(), &x); err != nil {
			panic(err)
		}
		r, err := carryOut(x)
		if err != nil {
			r.Error = err.Error()
			errors.As(err, &r.Errno)
		}
		b, err := json.Marshal(r)
		if err != nil {
			panic(err)
		}
		os.Stdout.Write(append(b, '\n'))
	}
}

func carryOut(x command) (r started, err error) {
	if len(x.Rows) > 0 {
		r.Took, err = median(x.Rounds, x.Rows...)
		return r, err
	}
	c := exec.Command(x.Path, x.Args...)
	out, err := c.Output()
	r.Out = strings.TrimSpace(string(out))
	if c.Process != nil {
		r.PID = c.Process.Pid
	}
	return r, err
}

// start has a program started, and returns what became of it.
func start(path string, args ...string) (started, error) {
	return order(command{Path: path, Args: args})
}

// order has the starter do something.
func order(x command) (started, error) {
	starter.mu.Lock()
	defer starter.mu.Unlock()
	b, err := json.Marshal(x)
	if err != nil {
		return started{}, err
	}
	if _, err := starter.in.Write(append(b, '\n')); err != nil {
		return started{}, err
	}
	if !starter.out.Scan() {
		return started{}, io.ErrUnexpectedEOF
	}
	var r started
	if err := json.Unmarshal(starter.out.Bytes(), &r); err != nil {
		return started{}, err
	}
	switch {
	case r.Errno != 0:
		return r, r.Errno
	case r.Error != "":
		return r, errors.New(r.Error)
	}
	return r, nil
}

// run starts a program, and returns what it said.
func run(path string, args ...string) (string, error) {
	r, err := start(path, args...)
	return r.Out, err
}

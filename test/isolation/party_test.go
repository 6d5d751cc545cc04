// SPDX-License-Identifier: Apache-2.0

package isolation

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// partyVariable makes a process of this test binary a party: its value is a [party] in JSON.
const partyVariable = "AGENTD_TEST_PARTY"

// A party is a process of a user that asks one thing again and again.
type party struct {
	UID    uint32 // user
	Group  uint32 // group of the client socket
	Unit   string // unit that it declares to the simulator, empty for none
	Socket string

	Method, Path string
	Body         string // %N stands for a new nonce

	Connections int           // at once
	Requests    int           // after which it ends; 0: when its standard input ends
	New         bool          // a new connection for each request
	Hang        time.Duration // it hangs up so long after each request, without reading
	Pause       time.Duration // between two requests of a connection
	Hoard       bool          // it only opens connections, and writes half a request
}

// An account is what a party saw.
type account struct {
	Times   []time.Duration // of answers with status 200
	Refused map[string]int  // others, by code or error
}

func (a account) median() time.Duration {
	if len(a.Times) == 0 {
		return 0
	}
	t := slices.Clone(a.Times)
	slices.Sort(t)
	return t[len(t)/2]
}

// runParty is the main function of a party.
func runParty(text string) error {
	var p party
	if err := json.Unmarshal([]byte(text), &p); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	fmt.Println("ready")
	var mu sync.Mutex
	total := account{Refused: map[string]int{}}
	var all sync.WaitGroup
	for range p.Connections {
		all.Go(func() {
			p.client(ctx, func(took time.Duration, refused string) {
				mu.Lock()
				defer mu.Unlock()
				if refused == "" {
					total.Times = append(total.Times, took)
				} else {
					total.Refused[refused]++
				}
			})
		})
	}
	all.Wait()
	return json.NewEncoder(os.Stdout).Encode(total)
}

// client asks over one connection at a time until ctx ends.
func (p *party) client(ctx context.Context, tell func(time.Duration, string)) {
	var c net.Conn
	var r *bufio.Reader
	drop := func() {
		if c != nil {
			c.Close()
			c = nil
		}
	}
	defer drop()
	for n := 0; ctx.Err() == nil && (p.Requests == 0 || n < p.Requests); n++ {
		began := time.Now()
		if c == nil {
			var err error
			if c, err = net.Dial("unix", p.Socket); err != nil {
				tell(0, fmt.Sprintf("connect: %v", err))
				pause(ctx, 5*time.Millisecond)
				c = nil
				continue
			}
			r = bufio.NewReader(c)
		}
		if p.Hoard {
			io.WriteString(c, "GET /v1/self HT")
			<-ctx.Done()
			return
		}
		took, refused, again := p.ask(c, r)
		if took == 0 && refused == "" { // it hung up
			drop()
			continue
		}
		tell(time.Since(began), refused)
		if !again || p.New {
			drop()
		}
		pause(ctx, p.Pause)
	}
}

func pause(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// ask sends one request and reads the answer, or hangs up.
func (p *party) ask(c net.Conn, r *bufio.Reader) (took time.Duration, refused string, again bool) {
	began := time.Now()
	nonce := make([]byte, 32)
	rand.Read(nonce)
	body := strings.ReplaceAll(p.Body, "%N", base64.StdEncoding.EncodeToString(nonce))
	c.SetDeadline(time.Now().Add(2 * time.Minute))
	if _, err := fmt.Fprintf(c, "%s %s HTTP/1.1\r\nHost: agentd\r\nContent-Length: %d\r\n\r\n%s", p.Method, p.Path, len(body), body); err != nil && p.Hang == 0 {
		return time.Since(began), "write", false
	}
	if p.Hang > 0 {
		time.Sleep(p.Hang)
		return 0, "", false
	}
	answer, err := http.ReadResponse(r, nil)
	if err != nil {
		return time.Since(began), "read", false
	}
	defer answer.Body.Close()
	b, err := io.ReadAll(answer.Body)
	switch {
	case err != nil:
		return time.Since(began), "read", false
	case answer.StatusCode != http.StatusOK:
		var problem struct{ Code string }
		_ = json.Unmarshal(b, &problem)
		return time.Since(began), strconv.Itoa(answer.StatusCode) + " " + problem.Code, !answer.Close
	}
	return time.Since(began), "", !answer.Close
}

// A process is a party that runs.
type process struct {
	t     *testing.T
	cmd   *exec.Cmd
	stdin io.WriteCloser
	out   *bufio.Reader
	err   bytes.Buffer
}

// start starts a party as its user.
func start(t *testing.T, p party) *process {
	t.Helper()
	text, err := json.Marshal(p)
	must(t, err)
	x := &process{t: t, cmd: exec.Command("/proc/self/exe")}
	x.cmd.Env = []string{partyVariable + "=" + string(text), "AGENTD_SIM_DECLARED_UNIT=" + p.Unit}
	x.cmd.SysProcAttr = &syscall.SysProcAttr{
		Pdeathsig:  unix.SIGKILL,
		Credential: &syscall.Credential{Uid: p.UID, Gid: p.UID, Groups: []uint32{p.Group}},
	}
	x.cmd.Stderr = &x.err
	x.stdin, err = x.cmd.StdinPipe()
	must(t, err)
	out, err := x.cmd.StdoutPipe()
	must(t, err)
	x.out = bufio.NewReader(out)
	must(t, x.cmd.Start())
	t.Cleanup(func() {
		x.cmd.Process.Kill()
		x.cmd.Wait()
	})
	if line, err := x.out.ReadString('\n'); line != "ready\n" {
		t.Fatalf("a party did not start: %q, %v\n%s", line, err, x.err.String())
	}
	return x
}

// end tells the party to end, unless it counts its requests, and returns what it saw.
func (x *process) end(tell bool) account {
	x.t.Helper()
	if tell {
		x.stdin.Close()
	}
	var a account
	if err := json.NewDecoder(x.out).Decode(&a); err != nil {
		x.t.Fatalf("a party did not account for itself: %v\n%s", err, x.err.String())
	}
	return a
}

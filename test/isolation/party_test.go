// SPDX-License-Identifier: Apache-2.0

package isolation

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
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
	Requests    int           // after which it ends, if For has passed too; 0: when its standard input ends
	For         time.Duration // least time that it works, and all of it without Requests
	New         bool          // a new connection for each request
	Hang        time.Duration // it hangs up so long after each request, without reading
	Pause       time.Duration // between two requests of a connection
	Hoard       bool          // it only opens connections, and writes half a request
	Replace     []string      // files of which it replaces one before each request, by turns; %I in the path is the number of that file
	Touch       []string      // files whose time it sets before each request; without a method that is all it does
	Size        int64         // of the files of Touch while it works, without a block on disk; they are empty afterwards
}

// An account is what a party saw.
type account struct {
	Times   []time.Duration // of answers with status 200
	Refused map[string]int  // others, by code or error
}

func (a account) median() time.Duration { return a.percentile(50) }

func (a account) percentile(p int) time.Duration {
	if len(a.Times) == 0 {
		return 0
	}
	t := slices.Clone(a.Times)
	slices.Sort(t)
	return t[len(t)*p/100]
}

// runParty is the main function of a party.
func runParty(text string) error {
	var p party
	if err := json.Unmarshal([]byte(text), &p); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	if p.Requests == 0 && p.For > 0 {
		ctx, cancel = context.WithTimeout(ctx, p.For)
	}
	defer cancel()
	go func() {
		io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	var mu sync.Mutex
	total := account{Refused: map[string]int{}}
	var all, begun sync.WaitGroup
	begun.Add(p.Connections)
	for range p.Connections {
		all.Go(func() {
			p.client(ctx, sync.OnceFunc(begun.Done), func(took time.Duration, refused string) {
				mu.Lock()
				defer mu.Unlock()
				if ctx.Err() != nil { // what comes later depends on the number of connections
					return
				}
				if refused == "" {
					total.Times = append(total.Times, took)
				} else {
					total.Refused[refused]++
				}
			})
		})
	}
	begun.Wait()
	fmt.Println("ready")
	all.Wait()
	for _, name := range p.Touch {
		if err := os.Truncate(name, 0); err != nil {
			return err
		}
	}
	return json.NewEncoder(os.Stdout).Encode(total)
}

// client asks over one connection at a time until ctx ends. It calls begun when its first
// request is under way, or cannot be.
func (p *party) client(ctx context.Context, begun func(), tell func(time.Duration, string)) {
	defer begun()
	start := time.Now()
	var c net.Conn
	var r *bufio.Reader
	stop := func() bool { return true }
	drop := func() {
		stop()
		if c != nil {
			c.Close()
			c = nil
		}
	}
	defer drop()
	for n := 0; ctx.Err() == nil && (p.Requests == 0 || n < p.Requests || time.Since(start) < p.For); n++ {
		if err := p.change(n); err != nil {
			tell(0, err.Error())
		}
		if p.Method == "" && !p.Hoard {
			begun()
			pause(ctx, p.Pause)
			continue
		}
		began := time.Now()
		if c == nil {
			conn, err := net.Dial("unix", p.Socket)
			if err != nil {
				begun()
				tell(0, fmt.Sprintf("connect: %v", err))
				pause(ctx, 5*time.Millisecond)
				continue
			}
			c = conn
			r = bufio.NewReader(c)
			stop = context.AfterFunc(ctx, func() { conn.Close() })
		}
		if p.Hoard {
			io.WriteString(c, "GET /v1/self HT")
			begun()
			<-ctx.Done()
			return
		}
		took, refused, again := p.ask(c, r, n, begun)
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

// change does to files what the party does before request n.
func (p *party) change(n int) error {
	for _, name := range p.Touch {
		if err := errors.Join(os.Truncate(name, p.Size), os.Chtimes(name, time.Now(), time.Now())); err != nil {
			return err
		}
	}
	if len(p.Replace) == 0 {
		return nil
	}
	name := p.Replace[n%len(p.Replace)]
	if err := os.WriteFile(name+".new", []byte(rand.Text()), 0o755); err != nil {
		return err
	}
	return os.Rename(name+".new", name)
}

// ask sends request n and reads the answer, or hangs up.
func (p *party) ask(c net.Conn, r *bufio.Reader, n int, begun func()) (took time.Duration, refused string, again bool) {
	began := time.Now()
	nonce := make([]byte, 32)
	rand.Read(nonce)
	body := strings.ReplaceAll(p.Body, "%N", base64.StdEncoding.EncodeToString(nonce))
	path := strings.ReplaceAll(p.Path, "%I", strconv.Itoa(n%max(1, len(p.Replace))))
	c.SetDeadline(time.Now().Add(2 * time.Minute))
	_, err := fmt.Fprintf(c, "%s %s HTTP/1.1\r\nHost: agentd\r\nContent-Length: %d\r\n\r\n%s", p.Method, path, len(body), body)
	begun()
	if err != nil && p.Hang == 0 {
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

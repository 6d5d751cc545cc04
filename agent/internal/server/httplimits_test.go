// SPDX-License-Identifier: Apache-2.0

package server

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cvm-agentd/agentd/api"
)

// exchange sends text on a connection of its own and reads one answer.
func exchange(t *testing.T, r *running, text string) (*http.Response, *bufio.Reader) {
	t.Helper()
	c, err := dial(r.client, 1000)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(patience / 2))
	io.WriteString(c, text)
	b := bufio.NewReader(c)
	answer, err := http.ReadResponse(b, nil)
	if err != nil {
		t.Fatal(err)
	}
	return answer, b
}

// "OPTIONS *", which the HTTP library would answer by itself, goes the way of every request.
func TestNoOptions(t *testing.T) {
	r := run(t, &fake{}, Limits{RateEach: 1e-4, BurstEach: 1}, nil)
	for _, want := range []int{http.StatusNotFound, http.StatusTooManyRequests} {
		answer, _ := exchange(t, r, "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n")
		if answer.StatusCode != want || answer.Header.Get("Content-Type") != api.ProblemType {
			t.Errorf("%d %v, want a problem of status %d", answer.StatusCode, answer.Header, want)
		}
	}
}

// case 9: headers are read up to their cap.
func TestLongHeaders(t *testing.T) {
	r := run(t, &fake{}, Limits{}, nil)
	for n, want := range map[int]int{4 << 10: 200, 64 << 10: http.StatusRequestHeaderFieldsTooLarge} {
		answer, _ := exchange(t, r, "GET /v1/self HTTP/1.1\r\nHost: a\r\nX: "+strings.Repeat("x", n)+"\r\n\r\n")
		if answer.StatusCode != want {
			t.Errorf("%d bytes of headers: status %d, want %d", n, answer.StatusCode, want)
		}
	}
}

// case 8: headers that do not come, and requests that do not, end a connection in time.
func TestConnectionTimes(t *testing.T) {
	r := run(t, &fake{}, Limits{HeaderTimeout: 50 * time.Millisecond}, nil)
	c, err := dial(r.client, 1000)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprint(c, "GET /v1/self HTTP/1.1\r\nHost: a\r\n")
	c.SetDeadline(time.Now().Add(patience / 2))
	if _, err := io.ReadAll(c); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("half a request: %v, want the end of the connection", err)
	}

	r = run(t, &fake{}, Limits{IdleTimeout: 50 * time.Millisecond}, nil)
	answer, rest := exchange(t, r, "GET /v1/self HTTP/1.1\r\nHost: a\r\n\r\n")
	if answer.StatusCode != 200 {
		t.Fatal(answer.Status)
	}
	if _, err := io.Copy(io.Discard, answer.Body); err != nil {
		t.Fatal(err)
	}
	if _, err := rest.ReadByte(); err != io.EOF {
		t.Errorf("idle: %v, want the end of the connection", err)
	}
}

// A process that may open few descriptors takes fewer connections than that, and two users
// cannot have all of these wait for an answer.
func TestFewDescriptors(t *testing.T) {
	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	few := old
	if few.Cur = 1000; old.Cur < few.Cur {
		t.Skipf("%d descriptors are too few for this test", old.Cur)
	}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &few); err != nil {
		t.Fatal(err)
	}
	defer unix.Setrlimit(unix.RLIMIT_NOFILE, &old)
	for _, named := range []Limits{{}, {Connections: 2048, Requests: 1024, RequestsEach: 512, WaitingEach: 256}} {
		l := named.withDefaults()
		if l.Connections*descriptors > 1000-100 || l.Connections < 200 {
			t.Errorf("%+v: %d connections", named, l.Connections)
		}
		if busy := 2 * (l.RequestsEach + l.WaitingEach); busy >= l.Connections {
			t.Errorf("%+v: two users keep %d of %d connections busy", named, busy, l.Connections)
		}
	}
}

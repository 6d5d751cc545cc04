// SPDX-License-Identifier: Apache-2.0

package clients

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A hostile server answers a connection. The library in its name's language must end with one of the
// kinds of error, empty for none. The beginning of the name says what is asked for: evidence, log,
// derive or seal, otherwise the status; "again" asks twice, "patient" waits when the agent is busy.
type hostile struct {
	name   string
	answer func(c net.Conn, n int) // n counts the connections, from 0
	kinds  string
}

const (
	head     = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
	canary   = "Y2FuYXJ5LWNhbmFyeS1jYW5hcnk=" // canary-canary-canary, what no error may show
	noStatus = `{"version":"1"}`
)

// whole returns the answer with this body.
func whole(status, media, body string) string {
	return fmt.Sprintf("HTTP/1.1 %s\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n%s", status, media, len(body), body)
}

func refusal(members string) string {
	return whole("503 Busy", "application/problem+json", members)
}

// once writes one text to each connection, after the request.
func once(text string) func(net.Conn, int) {
	return func(c net.Conn, _ int) {
		if read(c) {
			fmt.Fprint(c, text)
		}
	}
}

// forever writes begin, and then a text until the client closes.
func forever(begin, text string, pause time.Duration) func(net.Conn, int) {
	return func(c net.Conn, _ int) {
		if !read(c) {
			return
		}
		for _, err := fmt.Fprint(c, begin); err == nil; _, err = fmt.Fprint(c, text) {
			time.Sleep(pause)
		}
	}
}

// read reads a request.
func read(c net.Conn) bool {
	_, err := http.ReadRequest(bufio.NewReader(c))
	return err == nil
}

var hostiles = []hostile{
	{"silent", forever("", "", 20*time.Millisecond), "TimedOut"},
	{"slow-header", forever("", "H", 20*time.Millisecond), "TimedOut BadAnswer"},
	{"slow-line", forever("HTTP/1.1 200 OK\r\nA: ", "a", 20*time.Millisecond), "TimedOut"},
	{"slow-body", forever(head+"Content-Length: 100000\r\n\r\n", "a", 20*time.Millisecond), "TimedOut"},
	{"slow-chunks", forever(head+"Transfer-Encoding: chunked\r\n\r\n", "1\r\na\r\n", 20*time.Millisecond), "TimedOut"},
	{"endless-header", forever("HTTP/1.1 200 OK\r\n", "A: "+strings.Repeat("a", 1000)+"\r\n", 0), "BadAnswer"},
	{"endless-line", forever("HTTP/1.1 200 OK\r\nA: ", strings.Repeat("a", 1000), 0), "BadAnswer"},
	{"endless-body", forever(head+"\r\n", strings.Repeat("a", 1<<16), 0), "BadAnswer"},
	{"endless-chunks", forever(head+"Transfer-Encoding: chunked\r\n\r\n", "10000\r\n"+strings.Repeat("a", 1<<16)+"\r\n", 0), "BadAnswer"},
	{"endless-interim", forever("", strings.Repeat("HTTP/1.1 100 Continue\r\n\r\n", 4000), 0), "BadAnswer TimedOut"},
	{"endless-trailer", forever(head+"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n", "A: "+strings.Repeat("a", 1000)+"\r\n", 0), "BadAnswer"},
	{"evidence-endless-body", forever(head+"\r\n", strings.Repeat("a", 1<<20), 0), "BadAnswer"},
	{"huge-length", once(head + "Content-Length: 1000000000000\r\n\r\n"), "BadAnswer"},
	{"evidence-huge-length", once(head + "Content-Length: 37748737\r\n\r\n"), "BadAnswer"},
	{"two-lengths", once(head + "Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}}"), "BadAnswer"},
	{"cut-body", once(head + "Content-Length: 100\r\n\r\n{}"), "BadAnswer"},
	{"cut-chunks", once(head + "Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n"), "BadAnswer"},
	{"derive-cut-body", once(head + "Content-Length: 100\r\n\r\n" + `{"secret":"` + canary + `","version":1}`), "BadAnswer"},
	{"cut-header", once(head), "BadAnswer Unreachable"},
	{"closed", func(net.Conn, int) {}, "Unreachable"},
	{"closed-after-request", func(c net.Conn, _ int) { read(c) }, "Unreachable"},
	{"another-protocol", once("SSH-2.0-OpenSSH_9.2\r\n"), "BadAnswer"},
	{"another-service", once(whole("200 OK", "text/html", "<html>")), "BadAnswer"},
	{"redirect", once("HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1/\r\nContent-Length: 0\r\n\r\n"), "BadAnswer"},
	{"empty", once(whole("200 OK", "application/json", "")), "BadAnswer"},
	{"no-content", once("HTTP/1.1 204 No Content\r\n\r\n"), "BadAnswer"},
	{"not-UTF-8", once(whole("200 OK", "application/json", "{\"version\":\"\xff\"}")), "BadAnswer"},
	{"deep", once(whole("200 OK", "application/json", strings.Repeat("[", 1<<20))), "BadAnswer"},
	{"deep-objects", once(whole("200 OK", "application/json", strings.Repeat(`{"evidence":`, 1<<17))), "BadAnswer"},
	{"long-number", once(whole("200 OK", "application/json", `{"version":`+strings.Repeat("1", 1<<20)+"}")), "BadAnswer"},
	{"not-a-number", once(whole("200 OK", "application/json", `{"version":NaN}`)), "BadAnswer"},
	{"a-list", once(whole("200 OK", "application/json", "[]")), "BadAnswer"},
	{"log-many", once(whole("200 OK", "application/json", "["+strings.Repeat("[],", 8<<20)+"[]]")), "BadAnswer"},
	{"null", once(whole("200 OK", "application/json", "null")), "BadAnswer"},
	{"members-missing", once(whole("200 OK", "application/json", noStatus)), "BadAnswer"},
	{"inherited-members", once(whole("200 OK", "application/json", `{"__proto__":{"version":"1"}}`)), "BadAnswer"},
	{"derive-text", once(whole("200 OK", "application/json", `{"secret":1,"version":1}`)), "BadAnswer"},
	{"derive-null", once(whole("200 OK", "application/json", `{"secret":null,"version":1}`)), "BadAnswer"},
	{"derive-base64", once(whole("200 OK", "application/json", `{"secret":"`+canary+`!","version":1}`)), "BadAnswer"},
	{"derive-bits", once(whole("200 OK", "application/json", `{"secret":"AB==","version":1}`)), "BadAnswer"},
	{"derive-space", once(whole("200 OK", "application/json", `{"secret":"`+canary+` ","version":1}`)), "BadAnswer"},
	{"derive-negative", once(whole("200 OK", "application/json", `{"secret":"`+canary+`","version":-1}`)), "BadAnswer"},
	{"derive-fraction", once(whole("200 OK", "application/json", `{"secret":"`+canary+`","version":1.5}`)), "BadAnswer"},
	{"derive-large", once(whole("200 OK", "application/json", `{"secret":"`+canary+`","version":4294967296}`)), "BadAnswer"},
	{"derive-flag", once(whole("200 OK", "application/json", `{"secret":"`+canary+`","version":true}`)), "BadAnswer"},
	{"derive-not-JSON", once(whole("200 OK", "application/json", `{"secret":"`+canary+`","version":1`)), "BadAnswer"},
	{"derive-more", once(whole("200 OK", "application/json", `{"secret":"`+canary+`","version":1,"later":{"x":[]}}`)), ""},
	{"problem-busy", once(refusal(`{"type":"u","title":"t","status":503,"code":"busy","retryAfter":1}`)), "Unavailable"},
	{"problem-later", once(refusal(`{"type":"u","title":"t","status":503,"code":"code-of-a-later-version"}`)), "Unavailable"},
	{"problem-later-refusal", once(whole("403 No", "application/problem+json", `{"type":"u","title":"t","status":403,"code":"constructor"}`)), "NotPermitted"},
	{"problem-without-code", once(refusal(`{"type":"u","title":"t","status":503,"code":""}`)), "BadAnswer"},
	{"problem-not-JSON", once(refusal(`{`)), "BadAnswer"},
	{"problem-of-another-type", once(whole("503 Busy", "text/plain", "busy")), "BadAnswer"},
	{"patient-long", once(refusal(`{"type":"u","title":"t","status":503,"code":"busy","retryAfter":9007199254740991}`)), "Unavailable"},
	{"derive-patient-busy-once", func(c net.Conn, n int) {
		if n == 0 {
			once(refusal(`{"type":"u","title":"t","status":503,"code":"busy","retryAfter":1}`))(c, n)
			return
		}
		once(whole("200 OK", "application/json", `{"secret":"`+canary+`","version":1}`))(c, n)
	}, ""},
	// The agent was started again: the connection that was kept is closed. The library connects again.
	{"derive-again-broken", func(c net.Conn, n int) {
		once(whole("200 OK", "application/json", `{"secret":"`+canary+`","version":1}`))(c, n)
	}, ""},
	// More than the answer is the answer to no request.
	{"derive-again-more", func(c net.Conn, n int) {
		text := whole("200 OK", "application/json", `{"secret":"`+canary+`","version":1}`)
		if n == 0 {
			text += "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
		}
		once(text)(c, n)
		io.Copy(io.Discard, c)
	}, ""},
	// The agent answers some new connections, and closes them without reading.
	{"seal-refused-unread", func(c net.Conn, _ int) {
		fmt.Fprint(c, refusal(`{"type":"u","title":"t","status":503,"code":"too-many-connections"}`))
	}, "Unavailable Unreachable"},
	{"refused-unread", func(c net.Conn, _ int) {
		fmt.Fprint(c, refusal(`{"type":"u","title":"t","status":503,"code":"too-many-connections"}`))
	}, "Unavailable Unreachable"},
	{"seal-closed-unread", func(net.Conn, int) {}, "Unreachable"},
}

// serve runs each server on a socket of its name in a folder.
func serve(t *testing.T, servers []hostile) (folder string) {
	t.Helper()
	folder, err := os.MkdirTemp("", "agentd-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(folder) })
	for _, h := range servers {
		l, err := net.Listen("unix", filepath.Join(folder, h.name))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		go func() {
			for n := 0; ; n++ {
				c, err := l.Accept()
				if err != nil {
					return
				}
				go func() {
					defer c.Close()
					h.answer(c, n)
				}()
			}
		}()
	}
	return folder
}

// answers is what the programs hostile.py and hostile.mjs print.
type answers struct {
	Answers map[string]struct {
		failure
		RetryAfter *int
		Seconds    float64
	}
	Memory int // KiB
}

// TestHostileServers: whatever answers, a call ends in its time, within its memory, with an error of
// the library that tells what happened and shows no secret.
func TestHostileServers(t *testing.T) {
	each(t, func(t *testing.T, l language) {
		var says answers
		if err := json.Unmarshal(l.run(t, "hostile", "", nil, serve(t, hostiles)), &says); err != nil {
			t.Fatal(err)
		}
		for _, h := range hostiles {
			a, ok := says.Answers[h.name]
			if kinds := strings.Fields(h.kinds); !ok || !slices.Contains(kinds, a.Kind) && (a.Kind != "" || len(kinds) > 0) {
				t.Errorf("%s: %q (%.300s), want %q", h.name, a.Kind, a.Text, h.kinds)
			}
			if a.Seconds > 45 { // of a call with one second, or with 30
				t.Errorf("%s: %v s", h.name, a.Seconds)
			}
			if strings.Contains(a.Text, canary[:12]) || strings.Contains(a.Text, "canary-") || strings.Contains(a.Text, "a secret that") {
				t.Errorf("%s: shows a secret: %.500s", h.name, a.Text)
			}
			// Node.js drops an answer that came before the request was sent.
			if strings.HasSuffix(h.name, "refused-unread") && l.name == "Python" && a.Kind != "Unavailable" {
				t.Errorf("%s: %q", h.name, a.Kind)
			}
			// Node.js reads interim answers without an end, and keeps none of them.
			if h.name == "endless-interim" && l.name == "Python" && a.Kind != "BadAnswer" {
				t.Errorf("%s: %q", h.name, a.Kind)
			}
			if h.name == "problem-busy" && (a.RetryAfter == nil || *a.RetryAfter != 1) {
				t.Errorf("%s: retry after %v", h.name, a.RetryAfter)
			}
		}
		t.Logf("%d servers, %d MiB", len(says.Answers), says.Memory>>10)
		if says.Memory > 300<<10 {
			t.Errorf("%d KiB of memory", says.Memory)
		}
	})
}

// TestQueue: while the queue of the socket is full, a library tries again, as long as its time allows.
func TestQueue(t *testing.T) {
	each(t, func(t *testing.T, l language) {
		begun := make(chan struct{})
		begin := sync.OnceFunc(func() { close(begun) })
		// The program asks in the order of the names.
		folder := serve(t, []hostile{{"closed", func(net.Conn, int) { begin() }, ""}})
		full := fullQueue(t, filepath.Join(folder, "b-full"))
		drained := fullQueue(t, filepath.Join(folder, "derive-patient-queue"))
		defer full.Close()
		defer drained.Close()
		go func() {
			<-begun
			time.Sleep(200 * time.Millisecond) // so that the library begins before
			for {
				c, err := drained.Accept()
				if err != nil {
					return
				}
				go func() {
					defer c.Close()
					once(whole("200 OK", "application/json", `{"secret":"`+canary+`","version":1}`))(c, 0)
				}()
			}
		}()
		var says answers
		if err := json.Unmarshal(l.run(t, "hostile", "", nil, folder), &says); err != nil {
			t.Fatal(err)
		}
		if a := says.Answers["b-full"]; a.Kind != "Unreachable" || !strings.Contains(a.Text, "queue") {
			t.Errorf("a queue that stays full: %+v", a)
		}
		if a := says.Answers["derive-patient-queue"]; a.Kind != "" || a.Seconds == 0 {
			t.Errorf("a queue that was full: %+v", a)
		}
	})
}

// fullQueue listens on a socket, and fills its queue.
func fullQueue(t *testing.T, path string) net.Listener {
	t.Helper()
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(unix.Bind(fd, &unix.SockaddrUnix{Name: path}), unix.Listen(fd, 1)); err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), path)
	defer f.Close()
	l, err := net.FileListener(f)
	if err != nil {
		t.Fatal(err)
	}
	for range 10 {
		c, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Close(c) })
		if err := unix.Connect(c, &unix.SockaddrUnix{Name: path}); errors.Is(err, unix.EAGAIN) {
			return l
		} else if err != nil {
			t.Fatal(err)
		}
	}
	t.Fatal("the queue does not fill")
	return nil
}

// SPDX-License-Identifier: Apache-2.0

package tunnel

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/attestedtls"
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/evidencetest"
	"github.com/cvm-agentd/agentd/internal/metrics/metricstest"
	"github.com/cvm-agentd/agentd/internal/strictjson"
	"github.com/cvm-agentd/agentd/verify"
)

// introduced is what a service reads of PROXY protocol v2, by the text of its specification alone
// (proxy-protocol.txt of HAProxy, section 2.2).
type introduced struct {
	command  byte
	from, to netip.AddrPort
	values   map[byte]string
}

// readProxy reads a header from r, and not a byte more.
func readProxy(r io.Reader) (*introduced, error) {
	fixed := make([]byte, 16)
	if _, err := io.ReadFull(r, fixed); err != nil {
		return nil, err
	}
	if string(fixed[:12]) != "\r\n\r\n\x00\r\nQUIT\n" || fixed[12]>>4 != 2 {
		return nil, fmt.Errorf("not a header of version 2: %x", fixed)
	}
	rest := make([]byte, binary.BigEndian.Uint16(fixed[14:]))
	if _, err := io.ReadFull(r, rest); err != nil {
		return nil, err
	}
	out := &introduced{command: fixed[12] & 15, values: map[byte]string{}}
	size := 0
	switch fixed[13] {
	case 0x11: // TCP over IPv4
		size = 4
	case 0x21: // TCP over IPv6
		size = 16
	default:
		return nil, fmt.Errorf("family %#x", fixed[13])
	}
	from, _ := netip.AddrFromSlice(rest[:size])
	to, _ := netip.AddrFromSlice(rest[size:][:size])
	ports := rest[2*size:]
	out.from = netip.AddrPortFrom(from, binary.BigEndian.Uint16(ports))
	out.to = netip.AddrPortFrom(to, binary.BigEndian.Uint16(ports[2:]))
	return out, readValues(ports[4:], out.values)
}

// readValues reads a list of type, length and value.
func readValues(b []byte, into map[byte]string) error {
	for len(b) > 0 {
		if len(b) < 3 || len(b) < 3+int(binary.BigEndian.Uint16(b[1:])) {
			return fmt.Errorf("a value is cut short: %x", b)
		}
		n := int(binary.BigEndian.Uint16(b[1:]))
		if _, twice := into[b[0]]; twice {
			return fmt.Errorf("type %#x comes twice", b[0])
		}
		into[b[0]] = string(b[3:][:n])
		b = b[3+n:]
	}
	return nil
}

// lines is an access log in memory.
type lines struct {
	mu     sync.Mutex
	b      bytes.Buffer
	closed bool
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return 0, errors.New("it is closed")
	}
	return l.b.Write(b)
}

func (l *lines) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	return nil
}

// next waits for a line after so many.
func (l *lines) next(tb testing.TB, after int) map[string]any {
	tb.Helper()
	var text string
	eventually(tb, "a line of the access log", func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		text = l.b.String()
		return strings.Count(text, "\n") > after
	})
	var out map[string]any
	if err := json.Unmarshal([]byte(strings.Split(text, "\n")[after]), &out); err != nil {
		tb.Fatalf("%v: %s", err, text)
	}
	return out
}

// TestServiceIsTold: the service reads who connected and the verdict, before the first byte. Of a client
// that is not verified, or that the policy refuses, it reads no claim. The access log has the same.
func TestServiceIsTold(t *testing.T) {
	t.Parallel()
	type told struct {
		*introduced
		err  error
		rest string
	}
	for name, c := range map[string]struct {
		policy string // unit that it names; empty: clients are not verified
		warn   bool
		want   map[byte]string
	}{
		"accepted": {itsUnit, false, map[byte]string{0xE0: "accepted", 0xE4: itsUnit, 0xE7: fmt.Sprintf("%x", evidencetest.Measurement)}},
		"warned":   {otherUnit, true, map[byte]string{0xE0: "warned", 0xE1: "policy", 0xE4: "", 0xE6: "", 0xE7: "", 0xE8: ""}},
		"none":     {"", false, map[byte]string{0xE0: "none", 0xE2: "", 0xE3: "", 0xE4: ""}},
	} {
		all := make(chan told, 1)
		l := service(t, func(c net.Conn) {
			p, err := readProxy(c)
			rest, _ := io.ReadAll(c)
			all <- told{p, err, string(rest)}
		})
		log, in, other := &lines{}, serves(t, l.Addr()), connects(t, "")
		in.ProxyProtocol, in.Access, in.Warn = true, log, c.warn
		if c.policy != "" {
			in.Policy, in.Trust, in.Verifier = policyFor(t, c.policy), other.Trust, other.Verifier
		}
		inside := start(t, in)
		out := connects(t, inside.address)
		out.Attester, out.ServerName = attests(t), "name.example"
		conn := dialed(t, start(t, out).address)
		io.WriteString(conn, "hello")
		conn.CloseWrite()
		io.ReadAll(conn)
		got := <-all
		if got.err != nil {
			t.Fatalf("%s: %v", name, got.err)
		}
		if got.command != 1 || got.rest != "hello" || got.to.String() != inside.address || !got.from.Addr().IsLoopback() || got.from.Port() == 0 {
			t.Errorf("%s: %+v", name, got)
		}
		line := log.next(t, 0)
		for kind, want := range map[byte]string{0x01: "agentd/1", 0x02: "name.example", 0x05: line["id"].(string)} {
			if got.values[kind] != want {
				t.Errorf("%s: type %#x is %q, want %q", name, kind, got.values[kind], want)
			}
		}
		for kind, want := range c.want {
			if got.values[kind] != want {
				t.Errorf("%s: type %#x is %q, want %q", name, kind, got.values[kind], want)
			}
		}
		ssl := got.values[0x20]
		inner := map[byte]string{}
		if len(ssl) < 5 || readValues([]byte(ssl[5:]), inner) != nil || ssl[0]&1 == 0 || binary.BigEndian.Uint32([]byte(ssl[1:])) == 0 || inner[0x21] != "TLSv1.3" || !strings.HasPrefix(inner[0x23], "TLS_") {
			t.Errorf("%s: of TLS it says %x", name, ssl)
		}
		says := func(key string) string { s, _ := line[key].(string); return s }
		verdict := says("verdict")
		if verdict == "" {
			verdict = "none"
		}
		if verdict != got.values[0xE0] || says("code") != got.values[0xE1] || says("evidence") != got.values[0xE2] || says("policy") != got.values[0xE3] || says("unit") != got.values[0xE4] {
			t.Errorf("%s: the access log says %v, the service heard %q", name, line, got.values)
		}
		if line["result"] != "closed" || line["up"] != 5.0 || line["down"] != 0.0 || line["role"] != "serve" || line["peer"] != got.from.String() {
			t.Errorf("%s: the access log says %v", name, line)
		}
	}
}

// TestHeaderIsBounded: what a client can make long does not make the header long, or leave it out.
func TestHeaderIsBounded(t *testing.T) {
	v := &attestedtls.Verdict{Evidence: evidence.Digest{1}, Appraisal: new(verify.Appraisal), Claims: new(verify.Claims)}
	v.Claims.Statement.Caller.Unit = strings.Repeat("u", maxTLV+1)
	v.Claims.Statement.Caller.Container = &evidence.Container{ID: strings.Repeat("c", maxTLV)}
	state := &tls.ConnectionState{ServerName: strings.Repeat("s", maxTLV+1)}
	values, err := headerTLVs(state, v, &Record{ID: newID()})
	if err != nil {
		t.Fatal(err)
	}
	seen := map[byte]int{}
	for _, x := range values {
		seen[byte(x.Type)] = len(x.Value)
	}
	if seen[0x02] != 0 || seen[0xE4] != 0 || seen[0xE5] != maxTLV || seen[0xE0] == 0 {
		t.Errorf("%v", seen)
	}
}

// TestAccessLog: each connection has a line, whatever became of it. A reload has a new file written,
// and closes the old one. A disk that does not answer holds nothing up, and what is lost is counted.
func TestAccessLog(t *testing.T) {
	t.Parallel()
	inside := start(t, serves(t, service(t, echo).Addr()))
	s, log := connects(t, inside.address), &lines{}
	s.Access = log
	outside := start(t, s)
	c := dialed(t, outside.address)
	if err := exchange(c); err != nil {
		t.Fatal(err)
	}
	c.CloseWrite()
	io.ReadAll(c)
	if line := log.next(t, 0); line["result"] != "closed" || line["verdict"] != "accepted" || line["unit"] != itsUnit || len(line["policy"].(string)) != 64 || line["up"] != 6.0 {
		t.Errorf("%v", line)
	}
	second := &lines{}
	outside.reload(func(s *Settings) { s.Policy, s.Access = policyFor(t, otherUnit), second }, nil)
	resets(t, "a machine that the new policy refuses", outside.address)
	if line := second.next(t, 0); line["result"] != "refused" || line["code"] != "policy" || line["verdict"] != nil || line["unit"] != nil || len(line["evidence"].(string)) != 64 || line["other"] != nil {
		t.Errorf("%v", line)
	}
	if !log.closed {
		t.Error("the file of before stays open")
	}
	third := &lines{}
	outside.reload(func(s *Settings) { s.Limits.Idle, s.Access = 0, third }, nil)
	if !third.closed || second.closed {
		t.Error("after a bad reload the new file is open, or the old one closed")
	}

	stuck := newAccessLog(hung{})
	for range accessQueue + 100 {
		stuck.write(&Record{})
	}
	if n := stuck.lost.Load(); n < 98 || n > 100 {
		t.Errorf("%d lines are lost", n)
	}
	replaced := make(chan bool)
	go func() {
		stuck.replace(nil)
		close(replaced)
	}()
	select {
	case <-replaced:
	case <-time.After(patience):
		t.Error("a reload waits for the disk")
	}
}

// TestRecord: whatever text an error has, the line can be written. A connection that was warned of
// and broke off keeps the code of what was warned of, and is counted under it.
func TestRecord(t *testing.T) {
	for _, words := range []string{strings.Repeat("ä", maxError), "x" + strings.Repeat("ä", maxError), "\xff"} {
		r := new(Record)
		r.ended(Refused, &attestedtls.Error{Code: attestedtls.CodePolicy, Err: errors.New(words)})
		if b, err := strictjson.EncodeHex(r); err != nil || len(r.Error) > maxError+len("...") || r.Code != attestedtls.CodePolicy {
			t.Errorf("%v: %s", err, b)
		}
	}
	for result, want := range map[Result]attestedtls.Code{Broken: attestedtls.CodePolicy, Withdrawn: attestedtls.CodeTruncated} {
		r, f := &Record{Verdict: verdictWarned, Code: attestedtls.CodePolicy}, newFigures()
		r.ended(result, &attestedtls.Error{Code: attestedtls.CodeTruncated, Err: io.ErrUnexpectedEOF})
		f.note(r)
		if r.Code != want || (f.warned[want] == 1) != (result == Broken) || r.Error == "" {
			t.Errorf("%s: %+v, counted as %v", result, r, f.warned)
		}
	}
}

// hung is a disk that does not answer.
type hung struct{}

func (hung) Write([]byte) (int, error) { select {} }
func (hung) Close() error              { return nil }

// readFigures asks as monitoring does.
func readFigures(t *testing.T, l net.Listener) map[string]float64 {
	t.Helper()
	answer, err := http.Get("http://" + l.Addr().String() + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	b, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	all, err := metricstest.Parse(b)
	if err != nil {
		t.Fatalf("%v\n%s", err, b)
	}
	return all
}

// TestFigures: monitoring reads what became of connections.
func TestFigures(t *testing.T) {
	t.Parallel()
	inside := start(t, serves(t, service(t, echo).Addr()))
	s := connects(t, inside.address)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	outside := startWith(t, s, l)
	figures := func() map[string]float64 { return readFigures(t, l) }
	open := dialed(t, outside.address)
	if err := exchange(open); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]float64{
		"agentd_tunnel_connections": 1, "agentd_tunnel_connections_limit": 4096, "agentd_tunnel_exchange_seconds_count": 1,
		`agentd_tunnel_bytes_total{direction="up"}`: 6, `agentd_tunnel_bytes_total{direction="down"}`: 6,
	} {
		if got := figures()[name]; got != want {
			t.Errorf("%s is %v, want %v", name, got, want)
		}
	}
	open.Close()
	eventually(t, "an end of the connection", func() bool { return figures()["agentd_tunnel_connections"] == 0 })
	outside.reload(nil, errors.New("bad"))
	outside.reload(func(s *Settings) { s.Policy = policyFor(t, otherUnit) }, nil)
	resets(t, "a refused machine", outside.address)
	eventually(t, "a refusal", func() bool { return figures()[`agentd_tunnel_refusals_total{code="policy",end="this"}`] == 1 })
	all := figures()
	if all[`agentd_tunnel_reloads_total{settings="kept"}`] != 1 || all[`agentd_tunnel_reloads_total{settings="replaced"}`] != 1 ||
		all[`agentd_tunnel_connections_ended_total{result="refused"}`] != 1 || all["agentd_tunnel_access_lines_lost_total"] != 0 {
		t.Errorf("%v", all)
	}
	f := newFigures()
	f.note(&Record{Result: Refused, Code: "invented", Other: true})
	if f.refusals[refusal{"other", true}] != 1 || len(f.refusals) != 1 {
		t.Errorf("a code that is none is counted as %v", f.refusals)
	}
}

// TestWeb: with WellKnown, a client that does not speak the protocol gets evidence, and nothing else
// of it reaches the service. Clients that do are served as before.
func TestWeb(t *testing.T) {
	t.Parallel()
	heard := make(chan bool, 9)
	l := service(t, func(c net.Conn) { heard <- true; echo(c) })
	made, err := attestedtls.SelfSigned()
	if err != nil {
		t.Fatal(err)
	}
	in := serves(t, l.Addr())
	in.WellKnown, in.TLS = true, &tls.Config{Certificates: []tls.Certificate{*made}}
	figures, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	inside := startWith(t, in, figures)
	web := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}, Timeout: patience}
	defer web.CloseIdleConnections()
	nonce := strings.Repeat("5a", 32)
	for path, want := range map[string]int{attestedtls.EvidencePath + "?nonce=" + nonce: 200, attestedtls.EvidencePath: 400, "/": 421, "/index.html": 421, attestedtls.EvidencePath + "/x": 421} {
		answer, err := web.Get("https://" + inside.address + path)
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(answer.Body)
		answer.Body.Close()
		if answer.StatusCode != want {
			t.Errorf("%s: %d, want %d", path, answer.StatusCode, want)
		}
		if want != 200 {
			continue
		}
		e, err := evidence.Parse(b)
		if err != nil {
			t.Fatal(err)
		}
		s, err := evidence.ParseStatement(e.Statement)
		if err != nil || fmt.Sprintf("%x", s.Nonce) != nonce || string(s.UserData) != attestedtls.EvidenceUserData || !bytes.Equal(s.PublicKey, made.Leaf.RawSubjectPublicKeyInfo) {
			t.Errorf("%v, %+v", err, s)
		}
	}
	if len(heard) > 0 {
		t.Error("the service heard of a client that was not attested to")
	}
	if err := exchange(dialed(t, start(t, connects(t, inside.address)).address)); err != nil {
		t.Errorf("an attested client: %v", err)
	}
	if n := readFigures(t, figures)["agentd_tunnel_exchange_seconds_count"]; n != 1 {
		t.Errorf("%v connections are counted as attested, want the one that was", n)
	}
	in = serves(t, l.Addr()) // without it, they are refused
	plain := start(t, in)
	if _, err := web.Get("https://" + plain.address + "/"); err == nil {
		t.Error("a client that does not speak the protocol is answered")
	}
	plain.says("refused: attested TLS: ")
}

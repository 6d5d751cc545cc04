// SPDX-License-Identifier: Apache-2.0

package test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/cvm-agentd/agentd/internal/evidencetest"
)

// Limits of a worker whose memory is measured, and what docs/verifier-service.md says of it.
const (
	hostileBody        = 1 << 20
	hostileAtOnce      = 8
	hostileConnections = 700
	hostileBase        = 48 << 20
	hostileTimes       = 16       // of a body, for each that is appraised at the same time
	hostileConnection  = 64 << 10 // for each connection
)

// hostile returns bodies of the largest size: each member of good evidence, of the first two levels, with
// one of these in its place.
func hostile(t *testing.T, nonce func() []byte) (all [][]byte) {
	t.Helper()
	fill := func(unit string) string { return strings.Repeat(unit, (hostileBody-40<<10)/len(unit)) }
	list := func(unit string) string { return "[" + strings.TrimSuffix(fill(unit+","), ",") + "]" }
	shapes := []string{list("{}"), list(`""`), list("0"), fill("["), fill(`{"a":`), `"` + fill("AAAA") + `"`, `"` + fill(`\u00e9`) + `"`}
	var document map[string]json.RawMessage
	if err := json.Unmarshal(evidencetest.New().Encode(t), &document); err != nil {
		t.Fatal(err)
	}
	// The text is put together by hand: what an encoder makes is one document, and these are not.
	request := func(evidence string) {
		n, err := json.Marshal(nonce())
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, fmt.Appendf(nil, `{"nonce":%s,"evidence":%s}`, n, evidence))
	}
	object := func(members map[string]json.RawMessage, key, value string) string {
		var out []string
		for _, k := range slices.Sorted(maps.Keys(members)) {
			v := string(members[k])
			if k == key {
				v = value
			}
			out = append(out, fmt.Sprintf("%q:%s", k, v))
		}
		return "{" + strings.Join(out, ",") + "}"
	}
	for i, shape := range shapes {
		all = append(all, []byte(shape), []byte(`{"nonce":`+shape+`}`))
		for n, key := range slices.Sorted(maps.Keys(document)) {
			if n%len(shapes) == i { // each member with one of them, since all of them take a minute
				request(object(document, key, shape))
			}
			var inner map[string]json.RawMessage
			if json.Unmarshal(document[key], &inner) != nil {
				continue
			}
			for m, below := range slices.Sorted(maps.Keys(inner)) {
				if (n+m)%len(shapes) == i {
					request(object(document, key, object(inner, below, shape)))
				}
			}
		}
	}
	return all
}

// TestHostileMemory: however large, deep or slow bodies are, and however many connections, a worker has no
// more memory than its limits say, and serves others meanwhile.
func TestHostileMemory(t *testing.T) {
	b := newBed(t, false)
	b.limits = fmt.Sprintf("rate = 100000\nburst = 100000\nclient_at_once = %d\nat_once = %d\nbody = %d\nconnections = %d\n", hostileAtOnce, hostileAtOnce, hostileBody, hostileConnections)
	w := b.start("one")
	w.put(b.alice(), "default", easy, "", nil)
	w.appraise("", nil)
	_, before := w.used()

	// Slow ones: as many bodies as are read at once, and connections that send half of a header.
	slow, send := io.Pipe()
	defer send.Close()
	var ended sync.WaitGroup
	for range hostileAtOnce {
		ended.Go(func() {
			if r, err := b.clientOf(1).Post(w.url+"/v1/appraisals", "", io.MultiReader(bytes.NewReader(make([]byte, 10)), slow)); err == nil {
				r.Body.Close()
			}
		})
	}
	roots := x509.NewCertPool()
	roots.AddCert(b.ca.root)
	_, address, _ := strings.Cut(w.url, "://")
	for range hostileConnections - 100 {
		c, err := tls.Dial("tcp", address, &tls.Config{RootCAs: roots})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		io.WriteString(c, "POST /v1/appraisals HTTP/1.1\r\nHost: a\r\nX-Long: "+strings.Repeat("a", 8<<10))
	}
	if code, err := ask(b.clientOf(2), "POST", w.url+"/v1/challenges", nil, nil); err != nil || code != 200 {
		t.Errorf("another client meanwhile: %d, %v", code, err)
	}
	_, slowPeak := w.used()
	send.Close()
	ended.Wait()

	longest := func(machine byte, nonce []byte) []byte {
		return evidence(t, nonce, func(r *evidencetest.Recipe) {
			r.AK = evidencetest.ECCKey(machine)
			for n := range 1000 {
				r.Events = append(r.Events, evidencetest.App(fmt.Sprint("app", n), fmt.Sprintf("app%d.service", n), "billing", "billing 1"))
			}
		})
	}
	bodies := hostile(t, func() []byte { return w.challenge("") })
	for n := range byte(2 * hostileAtOnce) {
		bodies = append(bodies, longest(20+n, w.challenge("")))
	}
	sizes := 0
	next := make(chan []byte)
	var senders sync.WaitGroup
	var mu sync.Mutex
	answers := map[string]int{} // with mu
	for range hostileAtOnce {
		c := b.clientWith(nil)
		senders.Go(func() {
			for body := range next {
				var a answer
				code, err := ask(c, "POST", w.url+"/v1/appraisals", body, &a)
				mu.Lock()
				switch {
				case err != nil:
					t.Error(err)
				case code == 200:
					answers[strings.Join(append([]string{a.Appraisal.Verdict}, a.failed()...), " ")]++
				default:
					answers[a.Code]++
				}
				mu.Unlock()
			}
		})
	}
	for _, body := range bodies {
		sizes += len(body)
		next <- body
	}
	close(next)
	senders.Wait()
	_, peak := w.used()
	bound := int64(hostileBase + hostileAtOnce*hostileTimes*hostileBody + hostileConnections*hostileConnection)
	t.Logf("%d bodies of %d MiB: %v", len(bodies), sizes>>20, answers)
	t.Logf("memory: %d MiB before, %d MiB at most with connections and slow bodies, %d MiB with large ones; the bound is %d MiB", before>>20, slowPeak>>20, peak>>20, bound>>20)
	if peak > bound {
		t.Errorf("%d bytes, at most %d", peak, bound)
	}
	if code, a := w.appraise("", func(r *evidencetest.Recipe) { r.AK = evidencetest.ECCKey(9) }); code != 200 || a.Appraisal.Verdict != "pass" {
		t.Errorf("an honest client afterwards: %d, %+v", code, a)
	}
}

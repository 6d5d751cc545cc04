// SPDX-License-Identifier: Apache-2.0

package collateral

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/internal/evidencetest"
	"github.com/cvm-agentd/agentd/verify/snp"
)

// TestMemory: at most so many files are kept, and the one that was not read for longest goes.
func TestMemory(t *testing.T) {
	m, err := NewMemory(2)
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	content := []byte("a")
	for _, name := range []string{"a", "b"} {
		if err := m.Put(ctx, name, content); err != nil {
			t.Fatal(err)
		}
	}
	content[0] = 'x'
	got, put, err := m.Get(ctx, "a")
	if err != nil || string(got) != "a" || put.IsZero() {
		t.Fatalf("%q, %v, %v", got, put, err)
	}
	got[0] = 'y'
	if err := m.Put(ctx, "c", nil); err != nil {
		t.Fatal(err)
	}
	if _, _, err := m.Get(ctx, "b"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("b: %v", err)
	}
	if got, _, err := m.Get(ctx, "a"); err != nil || string(got) != "a" {
		t.Errorf("a: %q, %v", got, err)
	}
	if _, err := NewMemory(0); err == nil {
		t.Error("a store of no files")
	}
}

// TestThrottledOnce: after an answer 429 nothing is asked until the time that it named, by none of
// many that ask at once, and then again.
func TestThrottledOnce(t *testing.T) {
	s := newService(t)
	s.faults["cert_chain"] = func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "30")
		w.WriteHeader(http.StatusTooManyRequests)
	}
	store, err := NewMemory(10)
	if err != nil {
		t.Fatal(err)
	}
	fetcher, now := New(store, Client{Base: s.URL}), evidencetest.Time
	_, report := bare(t)
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			_, err := fetcher.Fetch(t.Context(), report, snp.ProductUnknown, now.Add(10*time.Second))
			x, ok := errors.AsType[*ThrottledError](err)
			if !ok || x.RetryAfter != 30*time.Second || !strings.HasPrefix(x.URL, s.URL) {
				t.Errorf("got %v", err)
			}
		})
	}
	all.Wait()
	if got := len(s.requests()); got != 2 {
		t.Errorf("%d requests, want 2: %v", got, s.requests())
	}
	s.mu.Lock()
	delete(s.faults, "cert_chain")
	s.mu.Unlock()
	for _, c := range []struct {
		after    time.Duration
		requests int
	}{{39 * time.Second, 2}, {40 * time.Second, 4}} {
		done, err := fetcher.Fetch(t.Context(), report, snp.ProductUnknown, now.Add(c.after))
		if len(s.requests()) != c.requests || (err == nil) != (c.requests == 4) {
			t.Errorf("after %v: %v, %v, %v", c.after, done, err, s.requests())
		}
	}
}

// TestTurn: a fetch whose context ends while another waits for the service ends too.
func TestTurn(t *testing.T) {
	s := newService(t)
	asked := make(chan struct{})
	s.faults[chipHex] = func(_ http.ResponseWriter, r *http.Request) { close(asked); <-r.Context().Done() }
	store, err := NewMemory(10)
	if err != nil {
		t.Fatal(err)
	}
	fetcher := New(store, Client{Base: s.URL, Timeout: 10 * time.Second})
	_, report := bare(t)
	ctx, cancel := context.WithCancel(t.Context())
	first := make(chan error)
	go func() {
		_, err := fetcher.Fetch(ctx, report, snp.ProductUnknown, evidencetest.Time)
		first <- err
	}()
	<-asked
	ended, end := context.WithCancel(t.Context())
	end()
	if _, err := fetcher.Fetch(ended, report, snp.ProductUnknown, evidencetest.Time); !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "before this one") {
		t.Errorf("got %v", err)
	}
	cancel()
	if err := <-first; !errors.Is(err, context.Canceled) {
		t.Errorf("the first: %v", err)
	}
}

// failing is a store that cannot be reached.
type failing struct{ get, put error }

func (f failing) Get(context.Context, string) ([]byte, time.Time, error) {
	return nil, time.Time{}, f.get
}
func (f failing) Put(context.Context, string, []byte) error { return f.put }

// TestFailingStore: a store that fails is an error that names the file, and not an absence: nothing
// is asked because of it.
func TestFailingStore(t *testing.T) {
	down := errors.New("the database is down")
	for _, c := range []struct {
		name     string
		store    Store
		requests int
	}{
		{"get", failing{get: down}, 0},
		{"put", failing{get: fs.ErrNotExist, put: down}, 1},
		{"too large", large{}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newService(t)
			_, report := bare(t)
			fetcher := New(c.store, Client{Base: s.URL})
			_, err := fetcher.Fetch(t.Context(), report, snp.ProductUnknown, evidencetest.Time)
			if err == nil || !strings.Contains(err.Error(), "genoa-vcek-6363") || len(s.requests()) != c.requests {
				t.Errorf("%v after %v", err, s.requests())
			}
			if _, err := fetcher.For(t.Context(), report); (err == nil) != (c.name == "put") {
				t.Errorf("for: %v", err)
			}
		})
	}
}

// large has files that are larger than any that is fetched.
type large struct{ failing }

func (large) Get(context.Context, string) ([]byte, time.Time, error) {
	return make([]byte, MaxFile+1), evidencetest.Time, nil
}

// TestBrokenFileIsReplaced: what cannot be read is fetched again.
func TestBrokenFileIsReplaced(t *testing.T) {
	s := newService(t)
	_, report := bare(t)
	store, err := NewMemory(10)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{vcek(snp.Genoa, report.ChipID[:], report.ReportedTCB), "genoa-vcek-chain.pem", "genoa-vcek.crl"} {
		if err := store.Put(t.Context(), name, []byte("garbage")); err != nil {
			t.Fatal(err)
		}
	}
	fetcher := New(store, Client{Base: s.URL})
	done, err := fetcher.Fetch(t.Context(), report, snp.ProductUnknown, evidencetest.Time)
	if err != nil || len(s.requests()) != 3 {
		t.Fatalf("%v, %v after %v", done, err, s.requests())
	}
	if c, err := fetcher.For(t.Context(), report); err != nil || len(c.Certificates) != 3 || len(c.Revocation) != 1 {
		t.Errorf("%v, %v", c, err)
	}
}

// TestRedirect: a client of the caller's follows no redirect either, unless it says so.
func TestRedirect(t *testing.T) {
	s := newService(t)
	s.faults["crl"] = func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/elsewhere", http.StatusFound) }
	_, err := (&Client{Base: s.URL, HTTP: &http.Client{}}).RevocationList(t.Context(), snp.Genoa, snp.SignerVCEK)
	if x, ok := errors.AsType[*StatusError](err); !ok || x.Status != http.StatusFound {
		t.Errorf("got %v", err)
	}
	if n := len(s.requests()); n != 1 {
		t.Errorf("%d requests", n)
	}
	follow := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return nil }}
	if _, err := (&Client{Base: s.URL, HTTP: follow}).RevocationList(t.Context(), snp.Genoa, snp.SignerVCEK); err == nil || !strings.Contains(fmt.Sprint(s.requests()), "/elsewhere") {
		t.Errorf("%v after %v", err, s.requests())
	}
}

// SPDX-License-Identifier: Apache-2.0

package attest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/evidencetest"
	"github.com/cvm-agentd/agentd/internal/ima"
)

// fakeKernel is a list of IMA that grows, which counts what is read of it.
type fakeKernel struct {
	mu     sync.Mutex
	list   []byte
	opened int
	read   int // bytes
	fail   error
	piece  int    // most bytes of one read
	onRead func() // called before each
}

func (k *fakeKernel) open() (io.ReadCloser, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.opened++
	return &fakeFile{kernel: k}, nil
}

func (k *fakeKernel) add(entries ...[]byte) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.list = append(k.list, bytes.Join(entries, nil)...)
}

func (k *fakeKernel) counts() (opened, read int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.opened, k.read
}

type fakeFile struct {
	kernel *fakeKernel
	at     int
}

func (f *fakeFile) Read(b []byte) (int, error) {
	k := f.kernel
	if k.onRead != nil {
		k.onRead()
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case k.fail != nil:
		return 0, k.fail
	case f.at == len(k.list):
		return 0, io.EOF
	}
	n := copy(b[:min(len(b), k.piece)], k.list[f.at:])
	f.at += n
	k.read += n
	return n, nil
}

func (*fakeFile) Close() error { return nil }

// files returns n entries.
func files(n int) (out [][]byte) {
	for i := range n {
		out = append(out, evidencetest.IMAFile(fmt.Sprintf("/usr/bin/%d", i), fmt.Sprint(i)))
	}
	return out
}

// TestIMAList: the list is returned from any entry on, and each entry is read once.
func TestIMAList(t *testing.T) {
	all := files(300)
	k := &fakeKernel{piece: 7}
	l := NewIMAList(k.open)
	at := 0
	for _, n := range []int{0, 1, 2, 150, 300} {
		k.add(all[at:n]...)
		at = n
		for _, start := range []int{0, n / 2, n} {
			got, err := l.From(t.Context(), uint64(start))
			if err != nil || got.Start != uint64(start) || !bytes.Equal(got.Entries, bytes.Join(all[start:n], nil)) {
				t.Fatalf("%d entries, from %d: %v", n, start, err)
			}
		}
		if _, err := l.From(t.Context(), uint64(n+1)); !errors.Is(err, ErrIMAStart) || !strings.Contains(err.Error(), fmt.Sprintf("the list has %d", n)) {
			t.Errorf("after the end of %d: %v", n, err)
		}
	}
	if opened, read := k.counts(); opened != 1 || read != len(bytes.Join(all, nil)) {
		t.Errorf("opened %d times, %d bytes read", opened, read)
	}
}

// TestLongIMAList: of a list of 100 MiB, the end is handed out, and no more is kept (case 127).
func TestLongIMAList(t *testing.T) {
	entry := evidencetest.IMAFile("/usr/lib/x86_64-linux-gnu/"+strings.Repeat("x", 200), "x")
	n := 100<<20/len(entry) + 1
	k := &fakeKernel{piece: 4 << 10, list: bytes.Repeat(entry, n)}
	l := NewIMAList(k.open)
	for _, start := range []uint64{0, 1, uint64(n - evidence.MaxIMA/len(entry) - 1)} {
		_, err := l.From(t.Context(), start)
		if first := n - evidence.MaxIMA/len(entry); !errors.Is(err, ErrIMATooLong) || !strings.Contains(err.Error(), fmt.Sprintf("begin with entry %d", first)) {
			t.Errorf("from %d: %v", start, err)
		}
	}
	for _, rest := range []int{evidence.MaxIMA / len(entry), 1, 0} {
		got, err := l.From(t.Context(), uint64(n-rest))
		if err != nil || !bytes.Equal(got.Entries, bytes.Repeat(entry, rest)) {
			t.Errorf("the last %d: %v", rest, err)
		}
	}
	if _, read := k.counts(); read != n*len(entry) {
		t.Errorf("%d bytes were read, of %d", read, n*len(entry))
	}
	if kept := cap(l.tail); kept > 3*evidence.MaxIMA {
		t.Errorf("%d bytes are kept", kept)
	}
}

// TestIMAListFails: after an error nothing of the file is believed, and the next request begins anew.
func TestIMAListFails(t *testing.T) {
	all := files(3)
	for name, c := range map[string]struct {
		list []byte
		fail error
		want error
	}{
		"cut off":  {list: bytes.Join(all, nil)[:200], want: ima.ErrCut},
		"garbage":  {list: bytes.Repeat([]byte{0xff}, 100)},
		"no file":  {fail: io.ErrUnexpectedEOF, want: io.ErrUnexpectedEOF},
		"too long": {list: append([]byte("\x0a\x00\x00\x0001234567890123456789\x06\x00\x00\x00ima-ng\xff\xff\xff\xff"), 1)},
	} {
		k := &fakeKernel{piece: 64, list: c.list, fail: c.fail}
		l := NewIMAList(k.open)
		if _, err := l.From(t.Context(), 0); !errors.Is(err, ErrIMAUnavailable) || c.want != nil && !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
		k.mu.Lock()
		k.list, k.fail = bytes.Join(all, nil), nil
		k.mu.Unlock()
		if got, err := l.From(t.Context(), 1); err != nil || !bytes.Equal(got.Entries, bytes.Join(all[1:], nil)) {
			t.Errorf("after %s: %v", name, err)
		}
	}
	for _, path := range []string{filepath.Join(t.TempDir(), "none"), t.TempDir()} {
		l := NewIMAList(func() (io.ReadCloser, error) { return OpenIMAList(path) })
		if _, err := l.From(t.Context(), 0); !errors.Is(err, ErrIMAUnavailable) {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// TestIMAListGoesOn: a request that has no more time leaves what it has read to the next one.
func TestIMAListGoesOn(t *testing.T) {
	all := files(50)
	k := &fakeKernel{piece: 100, list: bytes.Join(all, nil)}
	ctx, cancel := context.WithCancel(t.Context())
	k.onRead = func() {
		if _, read := k.counts(); read > 1000 {
			cancel()
		}
	}
	l := NewIMAList(k.open)
	if _, err := l.From(ctx, 0); !errors.Is(err, context.Canceled) || errors.Is(err, ErrIMAUnavailable) {
		t.Fatal(err)
	}
	if got, err := l.From(t.Context(), 0); err != nil || !bytes.Equal(got.Entries, k.list) {
		t.Fatal(err)
	}
	if opened, read := k.counts(); opened != 1 || read != len(k.list) {
		t.Errorf("opened %d times, %d bytes read of %d", opened, read, len(k.list))
	}
}

// TestIMAListHasOneReader: while one reads, others wait, and can leave.
func TestIMAListHasOneReader(t *testing.T) {
	reading, release := make(chan struct{}, 100), make(chan struct{})
	k := &fakeKernel{piece: 1 << 20, list: bytes.Join(files(5), nil)}
	k.onRead = func() { reading <- struct{}{}; <-release }
	l := NewIMAList(k.open)
	var wg sync.WaitGroup
	ask := func() {
		wg.Go(func() {
			if got, err := l.From(t.Context(), 0); err != nil || !bytes.Equal(got.Entries, k.list) {
				t.Error(err)
			}
		})
	}
	ask()
	<-reading
	for range 5 {
		ask()
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if _, err := l.From(ctx, 0); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a caller that leaves: %v", err)
	}
	if len(reading) != 0 {
		t.Error("two read at once")
	}
	close(release)
	wg.Wait()
}

// TestEvidenceWithIMA: the list is read after the quote, and only for callers that ask for it. A list
// that cannot be read is nothing to others.
func TestEvidenceWithIMA(t *testing.T) {
	all := files(4)
	k := &fakeKernel{piece: 1 << 20, list: bytes.Join(all, nil)}
	var r *rig
	var early bool
	k.onRead = func() {
		r.tpm.set(func(f *fakeTPM) { early = early || f.quotes == 0 })
	}
	r = newRig(t, func(c *Config) { c.IMA, c.IMAQuoted = NewIMAList(k.open), true })
	plain := request(1, evidence.Fresh)
	if e := r.ask(t, plain); e.IMA != nil {
		t.Error("a list that nothing asked for")
	}
	if opened, _ := k.counts(); opened != 0 {
		t.Error("the list was opened, and nothing asked for it")
	}
	for _, start := range []uint64{0, 3, 4} {
		q := request(byte(10+start), evidence.Fresh)
		q.IMA, q.IMAStart = true, start
		if e := r.ask(t, q); e.IMA == nil || e.IMA.Start != start || !bytes.Equal(e.IMA.Entries, bytes.Join(all[start:], nil)) {
			t.Errorf("from %d: %+v", start, e.IMA)
		}
	}
	if early {
		t.Error("the list was read before the quote")
	}
	q := request(2, evidence.Fresh)
	q.IMA, q.IMAStart = true, 5
	if _, err := r.Attest(t.Context(), q, caller); !errors.Is(err, ErrIMAStart) {
		t.Errorf("after the end: %v", err)
	}
	q.IMA = false
	if _, err := r.Attest(t.Context(), q, caller); !errors.Is(err, ErrRequest) {
		t.Errorf("a start and no list: %v", err)
	}
	k.mu.Lock()
	k.fail = io.ErrUnexpectedEOF
	k.mu.Unlock()
	q.IMA, q.IMAStart = true, 0
	if _, err := r.Attest(t.Context(), q, caller); !errors.Is(err, ErrIMAUnavailable) {
		t.Errorf("a list that cannot be read: %v", err)
	}
	r.ask(t, plain)
}

// TestIMAPatience: a request reads the list as long as it may, and no longer. What it has read is there
// for the next one.
func TestIMAPatience(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := files(30)
		k := &fakeKernel{piece: len(all[0]), list: bytes.Join(all, nil)}
		k.onRead = func() { time.Sleep(time.Second) } // a list so long that the kernel needs that for a piece
		a := &Attester{c: Config{IMA: NewIMAList(k.open)}}
		begin := time.Now()
		if _, err := a.imaList(t.Context(), 0); !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, ErrIMAUnavailable) {
			t.Errorf("after %v: %v", time.Since(begin), err)
		}
		if took := time.Since(begin); took < 20*time.Second || took > 21*time.Second {
			t.Errorf("it took %v, want 20 s", took)
		}
		if got, err := a.imaList(t.Context(), 0); err != nil || !bytes.Equal(got.Entries, k.list) {
			t.Error(err)
		}
		if opened, read := k.counts(); opened != 1 || read != len(k.list) {
			t.Errorf("opened %d times, %d bytes read of %d", opened, read, len(k.list))
		}
	})
}

// TestIMAReaderLeaves: a caller that leaves while it reads the list reads on. What it reads is for all
// callers of its batch that ask for the same.
func TestIMAReaderLeaves(t *testing.T) {
	all := files(4)
	k := &fakeKernel{piece: 64, list: bytes.Join(all, nil)}
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	k.onRead = leave
	r := newRig(t, func(c *Config) { c.IMA, c.IMAQuoted = NewIMAList(k.open), true })
	q := request(1, evidence.Fresh)
	q.IMA = true
	parts, err := r.Attest(ctx, q, caller)
	if err != nil {
		t.Fatal(err)
	}
	if e := decode(t, parts, q.Nonce); e.IMA == nil || !bytes.Equal(e.IMA.Entries, k.list) || ctx.Err() == nil {
		t.Errorf("%+v", e.IMA)
	}
}

// TestIMAIsNotQuoted: without PCR 10 in the quote, nothing would bind the list.
func TestIMAIsNotQuoted(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*Config)
		want   error
	}{
		"not quoted": {func(c *Config) { c.IMA = NewIMAList((&fakeKernel{}).open) }, ErrIMANotQuoted},
		"no list":    {func(c *Config) { c.IMAQuoted = true }, ErrIMAUnavailable},
	} {
		r := newRig(t, c.change)
		q := request(1, evidence.Fresh)
		q.IMA = true
		if _, err := r.Attest(t.Context(), q, caller); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

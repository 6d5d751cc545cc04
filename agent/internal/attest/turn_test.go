// SPDX-License-Identifier: Apache-2.0

package attest

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/platform"
	device "github.com/cvm-agentd/agentd/internal/platform/snp"
	"github.com/cvm-agentd/agentd/verify/snp"
)

// host is one that answers the real device at once, and notes when.
type host struct{ at []time.Time }

// Offsets in the answer: the report follows a header with its size at 4, and has the report
// data at 0x50 (ABI, tables "MSG_REPORT_RSP" and "ATTESTATION_REPORT").
const (
	sizeAt       = 4
	reportAt     = 32
	reportDataAt = 0x50
)

func (h *host) Exchange(m *device.Message) (uint64, error) {
	h.at = append(h.at, time.Now())
	binary.LittleEndian.PutUint32(m.Response[sizeAt:], snp.ReportSize)
	binary.LittleEndian.PutUint32(m.Response[reportAt:], snp.MinReportVersion)
	copy(m.Response[reportAt+reportDataAt:], m.Request[:64])
	return 0, nil
}

func (h *host) Close() error { return nil }

// spaced is the real device. It returns of a report what decode expects.
type spaced struct{ *device.Device }

func (p spaced) Report(ctx context.Context, data platform.Data) (platform.Report, error) {
	r, err := p.Device.Report(ctx, data)
	if err == nil {
		r.Bytes = r.Bytes[reportDataAt:]
	}
	return r, err
}

// TestFreshUnderLoad: the host lets a report through every two seconds. A caller that comes
// right after another caller's report waits for one turn, those that come while it waits join
// its batch, and the quote is as young as the report.
func TestFreshUnderLoad(t *testing.T) {
	const spacing = 2 * time.Second
	synctest.Test(t, func(t *testing.T) {
		h := &host{}
		p, err := device.New(h, device.Options{Spacing: spacing})
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		r := newRig(t, func(c *Config) { c.Platform = spaced{p} })
		r.ask(t, request(0, evidence.Fresh))
		begin := time.Now()
		answered := make(chan string, 8)
		for n := range byte(8) { // two seconds of callers, each a quarter of a second after the other
			go func() {
				came := time.Now()
				e := get(t, r.start(t.Context(), 1+n, evidence.Fresh), 1+n)
				answered <- fmt.Sprintf("caller %d waited %v, batch of %d", n, time.Since(came), e.Batch.Tree.Size)
			}()
			synctest.Wait()
			time.Sleep(spacing / 8)
		}
		var got, want []string
		for n := range 8 {
			got = append(got, <-answered)
			want = append(want, fmt.Sprintf("caller %d waited %v, batch of 8", n, spacing-time.Duration(n)*spacing/8))
		}
		if slices.Sort(got); !slices.Equal(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
		if len(h.at) != 2 || h.at[1].Sub(begin) != spacing || r.tpm.last != h.at[1] {
			t.Errorf("reports at %v, the last quote at %v, the callers came from %v", h.at, r.tpm.last, begin)
		}
	})
}

// queue makes every turn at the platform wait until the function that it returns is called.
func (r *rig) queue() (come func()) {
	r.platform.mu.Lock()
	defer r.platform.mu.Unlock()
	turn := make(chan struct{})
	r.platform.turn = turn
	return func() { close(turn) }
}

// A turn for which no caller waits any more is not used.
func TestEveryCallerLeft(t *testing.T) {
	r := newRig(t, nil)
	come := r.queue()
	ctx, cancel := context.WithCancel(t.Context())
	left := r.start(ctx, 1, evidence.Fresh)
	until(t, "it waits for a turn", func() bool { return r.platform.queued.Load() == 1 })
	cancel()
	if o := <-left; !errors.Is(o.err, context.Canceled) {
		t.Errorf("error %v", o.err)
	}
	come()
	r.ask(t, request(2, evidence.Fresh))
	if s := r.Stats(); r.platform.count() != 1 || r.tpm.quotes != 1 || s.Batches.Failed != 0 || s.LastError != "" {
		t.Errorf("%d reports, %d quotes, counters %+v", r.platform.count(), r.tpm.quotes, s)
	}
}

// The turn itself may be late. Callers that can do without the report leave, whether they came
// before or after the others, and the report renews the anchor, also if none of them stays.
func TestLateTurn(t *testing.T) {
	for _, fresh := range []bool{false, true} {
		t.Run(fmt.Sprintf("fresh callers %v", fresh), func(t *testing.T) {
			r := aged(t, 10*time.Millisecond)
			r.platform.open()
			come := r.queue()
			var stays []<-chan outcomeOf
			leaves := []<-chan outcomeOf{r.start(t.Context(), 20, evidence.Anchored)}
			until(t, "it waits for a turn", func() bool { return r.platform.queued.Load() == 1 })
			for n := byte(0); fresh && n < 3; n++ {
				stays = append(stays, r.start(t.Context(), 10+n, evidence.Fresh))
				leaves = append(leaves, r.start(t.Context(), 21+n, evidence.Anchored))
			}
			old := r.currentAnchor()
			for n, w := range leaves {
				if e := get(t, w, 20+byte(n)); e.Anchor == nil || e.Anchor.Tree != old.snapshot.Tree {
					t.Errorf("anchored caller %d is not served from the old anchor", n)
				}
			}
			until(t, "the fresh ones wait", func() bool { return r.fresh.length() == len(stays) })
			come()
			for n, w := range stays {
				if e := get(t, w, 10+byte(n)); e.Anchor != nil || e.Batch.Tree.Size != uint64(len(stays)) {
					t.Errorf("fresh caller %d is in a batch of %d, want %d", n, e.Batch.Tree.Size, len(stays))
				}
			}
			until(t, "the anchor is renewed", func() bool { return r.currentAnchor() != old })
			if e := r.ask(t, request(99, evidence.Anchored)); e.Anchor == nil || r.platform.count() != 2 {
				t.Errorf("%d reports, want 2", r.platform.count())
			}
		})
	}
}

// If no turn comes, all that wait are told.
func TestNoTurn(t *testing.T) {
	r := newRig(t, func(c *Config) { c.ReportTimeout = 50 * time.Millisecond })
	r.queue()
	var all []<-chan outcomeOf
	for n := range byte(5) {
		all = append(all, r.start(t.Context(), n, evidence.Fresh))
	}
	for _, w := range all {
		if o := <-w; !errors.Is(o.err, platform.ErrTimedOut) {
			t.Errorf("error %v, want ErrTimedOut", o.err)
		}
	}
	if r.tpm.quotes != 0 {
		t.Errorf("%d quotes for no report", r.tpm.quotes)
	}
}

// SPDX-License-Identifier: Apache-2.0

package snp_test

import (
	"context"
	"encoding/binary"
	"errors"
	"slices"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/platform"
	"github.com/cvm-agentd/agentd/internal/platform/snp"
	"github.com/cvm-agentd/agentd/internal/platform/soft"
	"github.com/cvm-agentd/agentd/internal/secret"
	"github.com/cvm-agentd/agentd/sealing"
)

func TestVMPLOfDevice(t *testing.T) {
	for vmpl, want := range map[uint32]error{0: nil, 3: nil, 4: platform.ErrVMPL, 1 << 31: platform.ErrVMPL} {
		if _, err := snp.New(answering(nil), snp.Options{VMPL: vmpl}); !errors.Is(err, want) || (err == nil) != (want == nil) {
			t.Errorf("VMPL %d: %v, want %v", vmpl, err, want)
		}
	}
}

// case 40: a caller that waits in the queue while the key is wiped gets the error, and sends
// nothing.
func TestWipedKeyEmptiesQueue(t *testing.T) {
	soft.SharedAuthority()
	synctest.Test(t, func(t *testing.T) {
		p := machine(t, soft.Options{})
		p.SetFaults(soft.Faults{Stall: true})
		var all sync.WaitGroup
		for range 5 {
			all.Go(func() {
				if _, err := p.Report(context.Background(), platform.Fixed([64]byte{})); !errors.Is(err, platform.ErrKeyWiped) {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		p.SetFaults(soft.Faults{KeyWiped: true})
		all.Wait()
		if p.Exchanges() != 1 {
			t.Errorf("%d exchanges, want 1", p.Exchanges())
		}
	})
}

// A caller that leaves while requests are spaced takes no turn with it.
func TestGoneWhileSpaced(t *testing.T) {
	soft.SharedAuthority()
	synctest.Test(t, func(t *testing.T) {
		p := machine(t, soft.Options{Device: snp.Options{Spacing: 10 * time.Second}})
		start := time.Now()
		if _, err := p.Report(context.Background(), platform.Fixed([64]byte{})); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if _, err := p.Report(ctx, platform.Fixed([64]byte{})); !errors.Is(err, platform.ErrTimedOut) {
			t.Errorf("before the host may be asked again: %v", err)
		}
		if _, err := p.Report(context.Background(), platform.Fixed([64]byte{})); err != nil || time.Since(start) != 10*time.Second {
			t.Errorf("the next one: %v after %v", err, time.Since(start))
		}
	})
}

// A caller that waits for a turn on a device that is closed gets the error at once.
func TestCloseEndsQueue(t *testing.T) {
	soft.SharedAuthority()
	synctest.Test(t, func(t *testing.T) {
		p := machine(t, soft.Options{})
		p.SetFaults(soft.Faults{Stall: true})
		var first, second sync.WaitGroup
		first.Go(func() { p.Report(context.Background(), platform.Fixed([64]byte{})) })
		synctest.Wait()
		second.Go(func() {
			if _, err := p.Report(context.Background(), platform.Fixed([64]byte{})); err == nil || errors.Is(err, platform.ErrTimedOut) {
				t.Errorf("in the queue: %v", err)
			}
		})
		synctest.Wait()
		start := time.Now()
		if err := p.Device.Close(); err != nil {
			t.Error(err)
		}
		second.Wait()
		if got := time.Since(start); got != 0 {
			t.Errorf("it waited %v more", got)
		}
		p.SetFaults(soft.Faults{})
		first.Wait()
	})
}

// answering is a kernel that answers as the function does.
type answering func(m *snp.Message) (uint64, error)

func (f answering) Exchange(m *snp.Message) (uint64, error) { return f(m) }
func (f answering) Close() error                            { return nil }

// goodReport answers as a good firmware of a report of that version.
func goodReport(m *snp.Message, version uint32) {
	clear(m.Response)
	binary.LittleEndian.PutUint32(m.Response[4:], 1184)
	r := m.Response[32:]
	binary.LittleEndian.PutUint32(r, version)
	copy(r[0x50:0x90], m.Request)
}

// Versions to come reach a verifier that knows them; what no verifier takes does not.
func TestReportVersions(t *testing.T) {
	for version, want := range map[uint32]error{0: platform.ErrMalformed, 1: platform.ErrMalformed, 2: nil, 5: nil, 99: nil} {
		d, err := snp.New(answering(func(m *snp.Message) (uint64, error) { goodReport(m, version); return 0, nil }), snp.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := d.Report(t.Context(), platform.Fixed([64]byte{3})); !errors.Is(err, want) || (err == nil) != (want == nil) {
			t.Errorf("version %d: %v, want %v", version, err, want)
		}
	}
}

// A host that says that its table does not fit, although it does, loses its table, and takes
// no room from later ones.
func TestTableThatFits(t *testing.T) {
	lies := true
	var rooms []int
	d, err := snp.New(answering(func(m *snp.Message) (uint64, error) {
		if m.Command == snp.GetExtendedReport {
			if rooms = append(rooms, len(m.Table)); lies {
				m.TableSize = 0
				return 1 << 32, syscall.EIO
			}
		}
		goodReport(m, 2)
		return 0, nil
	}), snp.Options{})
	if err != nil {
		t.Fatal(err)
	}
	asked := 0
	once := func(context.Context) ([64]byte, error) { asked++; return [64]byte{1}, nil }
	if r, err := d.Report(t.Context(), once); err != nil || r.TableError == nil || asked != 1 {
		t.Errorf("%v, table: %v, data asked for %d times: what is sent again is the same request", err, r.TableError, asked)
	}
	lies = false
	if r, err := d.Report(t.Context(), platform.Fixed([64]byte{})); err != nil || r.TableError != nil {
		t.Errorf("%v, table: %v", err, r.TableError)
	}
	if !slices.Equal(rooms, []int{16384, 16384}) {
		t.Errorf("room for tables %v, want 16384 bytes each time", rooms)
	}
}

// A key does not stay in the answer that it came in.
func TestAnswerIsCleared(t *testing.T) {
	var kept []byte
	d, err := snp.New(answering(func(m *snp.Message) (uint64, error) {
		kept = m.Response
		m.Response[40] = 9
		return 0, nil
	}), snp.Options{})
	if err != nil {
		t.Fatal(err)
	}
	k, err := d.DeriveKey(t.Context(), sealing.TCBOf(1))
	if err != nil || bytesOf(t, k)[8] != 9 {
		t.Fatal(err)
	}
	if !slices.Equal(kept, make([]byte, 64)) {
		t.Errorf("the answer contains % x", kept)
	}
	if _, err := d.Fingerprint(t.Context(), snp.KeyProbe{}); err != nil || !slices.Equal(kept, make([]byte, 64)) {
		t.Errorf("probe: %v, the answer contains % x", err, kept)
	}
}

// Stapled certificates and the host's together are not more than evidence contains.
func TestCertificatesAreCapped(t *testing.T) {
	p := machine(t, soft.Options{})
	stapled := make([][]byte, evidence.MaxCertificates)
	for i := range stapled {
		stapled[i] = []byte{0x30, byte(i)}
	}
	if err := p.Staple(stapled); err != nil {
		t.Fatal(err)
	}
	r, err := p.Report(t.Context(), platform.Fixed([64]byte{}))
	if err != nil || len(r.Certificates) != evidence.MaxCertificates || !slices.Equal(r.Certificates[0], stapled[0]) {
		t.Errorf("%d certificates, %v", len(r.Certificates), err)
	}
}

// bytesOf copies the bytes of a key.
func bytesOf(t *testing.T, k *secret.Secret) (out []byte) {
	t.Helper()
	if err := k.Use(func(b []byte) error { out = slices.Clone(b); return nil }); err != nil {
		t.Fatal(err)
	}
	return out
}

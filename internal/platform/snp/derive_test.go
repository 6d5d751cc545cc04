// SPDX-License-Identifier: Apache-2.0

package snp_test

import (
	"context"
	"encoding/binary"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cvm-agentd/agentd/internal/platform"
	"github.com/cvm-agentd/agentd/internal/platform/snp"
	"github.com/cvm-agentd/agentd/internal/platform/soft"
	"github.com/cvm-agentd/agentd/sealing"
)

// case 74: the one key request there is, byte for byte.
func TestDerivedKeyRequest(t *testing.T) {
	p := machine(t, soft.Options{VMPL: 1})
	seen := &lastRequest{Transport: p.Transport()}
	d, err := snp.New(seen, snp.Options{VMPL: 1})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.DeriveKey(context.Background(), sealing.TCBOf(0x0100000000000004)); err != nil {
		t.Fatal(err)
	}
	want := make([]byte, 32)
	want[0] = 1 << 1          // root: key select 1, the VCEK
	want[8] = 1 | 1<<3 | 1<<5 // guest policy, measurement, TCB
	want[16] = 1              // VMPL
	want[24], want[31] = 4, 1 // TCB
	if !slices.Equal(seen.request, want) {
		t.Errorf("request % x\nwant    % x", seen.request, want)
	}
	if _, err := d.DeriveKey(context.Background(), sealing.TCB{}); !errors.Is(err, platform.ErrTCBZero) || seen.count != 1 {
		t.Errorf("without a TCB: %v after %d exchanges", err, seen.count)
	}
}

type lastRequest struct {
	snp.Transport
	request []byte
	count   int
}

func (l *lastRequest) Exchange(m *snp.Message) (uint64, error) {
	l.request, l.count = slices.Clone(m.Request), l.count+1
	return l.Transport.Exchange(m)
}

// case 67: an all-zero key and a status other than 0 are not keys.
func TestDerivedKeyRefusals(t *testing.T) {
	p := machine(t, soft.Options{})
	for _, c := range []struct {
		name   string
		faults soft.Faults
		tcb    uint64
		want   error
	}{
		{"zero key", soft.Faults{ZeroKey: true}, 1, platform.ErrZeroKey},
		{"status", soft.Faults{Status: 0x27}, 1, platform.ErrFirmware},
		{"above the committed TCB", soft.Faults{}, uint64(p.Options().CommittedTCB) + 1, platform.ErrFirmware},
		{"busy", soft.Faults{Busy: true}, 1, platform.ErrBusy},
	} {
		p.SetFaults(c.faults)
		if k, err := p.DeriveKey(context.Background(), sealing.TCBOf(c.tcb)); !errors.Is(err, c.want) || k != nil {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
}

// A key that no caller waits for any more does not stay in memory.
func TestAbandonedKeyIsCleared(t *testing.T) {
	soft.SharedAuthority()
	synctest.Test(t, func(t *testing.T) {
		p := machine(t, soft.Options{})
		kept := &lastResponse{Transport: p.Transport()}
		d, err := snp.New(kept, snp.Options{})
		if err != nil {
			t.Fatal(err)
		}
		p.SetFaults(soft.Faults{Stall: true})
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if _, err := d.DeriveKey(ctx, sealing.TCBOf(1)); !errors.Is(err, platform.ErrTimedOut) {
			t.Fatal(err)
		}
		p.SetFaults(soft.Faults{})
		synctest.Wait()
		if !kept.answered || !slices.Equal(kept.response, make([]byte, 64)) {
			t.Errorf("answered %t, response % x", kept.answered, kept.response)
		}
	})
}

type lastResponse struct {
	snp.Transport
	response []byte
	answered bool
}

func (l *lastResponse) Exchange(m *snp.Message) (uint64, error) {
	l.response = m.Response
	x, err := l.Transport.Exchange(m)
	l.answered = binary.LittleEndian.Uint64(m.Response[32:]) != 0
	return x, err
}

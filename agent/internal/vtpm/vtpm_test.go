// SPDX-License-Identifier: Apache-2.0

package vtpm_test

import (
	"bytes"
	"context"
	"crypto"
	"encoding/binary"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/cvm-agentd/agentd/agent/internal/vtpm"
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/tpm"
	"github.com/cvm-agentd/agentd/internal/tpm/registers"
	"github.com/cvm-agentd/agentd/internal/tpm/tpmkeys"
	"github.com/cvm-agentd/agentd/pcr"
	"github.com/cvm-agentd/agentd/test/swtpm"
)

func newTPM(t *testing.T) (*vtpm.TPM, *tpm.Device) {
	t.Helper()
	d := swtpm.Start(t).Device(tpm.Options{})
	var ak *tpmkeys.AK
	err := d.Do(t.Context(), func(tp transport.TPM) (err error) {
		ak, err = tpmkeys.Provision(tp, nil, tpmkeys.Auths{})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	s, err := pcr.ParseSelection("sha256:0-15")
	if err != nil {
		t.Fatal(err)
	}
	return &vtpm.TPM{Device: d, AK: ak, Selection: s}, d
}

func TestQuoteAgreesWithValues(t *testing.T) {
	v, _ := newTPM(t)
	q, err := v.Quote(t.Context(), evidence.Digest{7})
	if err != nil {
		t.Fatal(err)
	}
	composite, err := q.Selection.Composite(q.PCRs, crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(q.Attest, composite) || !bytes.Contains(q.Attest, bytes.Repeat([]byte{0}, 31)) {
		t.Error("the quote does not contain the composite of the values returned with it")
	}
	again, err := v.Quote(t.Context(), evidence.Digest{8})
	if err != nil {
		t.Fatal(err)
	}
	if !again.Clock.SameBoot(q.Clock) || again.Clock.Milliseconds < q.Clock.Milliseconds {
		t.Errorf("two quotes in a row of one boot: %+v, %+v", q.Clock, again.Clock)
	}
}

// meddler is a device on which something happens before each quote: what other
// programs on the kernel's resource manager can do, and what a lying vTPM can.
type meddler struct {
	vtpm.Device
	before func(t transport.TPM) error
	after  func(response []byte) []byte
	answer func(command, response []byte) []byte
}

func (m *meddler) Do(ctx context.Context, f func(transport.TPM) error) error {
	return m.Device.Do(ctx, func(t transport.TPM) error { return f(&meddled{t, m}) })
}

type meddled struct {
	transport.TPM
	m *meddler
}

func (m *meddled) Send(command []byte) ([]byte, error) {
	if tpm2.TPMCC(binary.BigEndian.Uint32(command[6:])) != tpm2.TPMCCQuote {
		return m.TPM.Send(command)
	}
	if m.m.before != nil {
		if err := m.m.before(m.TPM); err != nil {
			return nil, err
		}
	}
	b, err := m.TPM.Send(command)
	if err == nil && m.m.after != nil {
		b = m.m.after(b)
	}
	if err == nil && m.m.answer != nil {
		b = m.m.answer(command, b)
	}
	return b, err
}

// TestPCRMovesBetweenReadAndQuote holds case 34: the result is consistent, or there is none.
func TestPCRMovesBetweenReadAndQuote(t *testing.T) {
	for _, moves := range []int{0, 1, 3, 1000} {
		v, d := newTPM(t)
		left := moves
		v.Device = &meddler{Device: d, before: func(tp transport.TPM) error {
			if left == 0 {
				return nil
			}
			left--
			banks, err := registers.ActiveBanks(tp)
			if err != nil {
				return err
			}
			return registers.Extend(tp, 10, pcr.Digests(banks, []byte("another program")))
		}}
		q, err := v.Quote(t.Context(), evidence.Digest{1})
		if moves == 1000 {
			if !errors.Is(err, vtpm.ErrUnstable) {
				t.Errorf("a PCR that never rests: error %v, want ErrUnstable", err)
			}
			if text := err.Error(); !strings.Contains(text, "PCR 10 (sha256)") || strings.Contains(text, "PCR 1 ") || strings.Contains(text, "PCR 11") {
				t.Errorf("PCR 10 never rests, and the error is %q", text)
			}
			continue
		}
		if err != nil {
			t.Fatalf("%d moves: %v", moves, err)
		}
		composite, err := q.Selection.Composite(q.PCRs, crypto.SHA256)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Contains(q.Attest, composite) {
			t.Errorf("%d moves: quote and values are of different moments", moves)
		}
	}
}

// An answer that was changed on its way, or is to another question, is found out
// before anything is signed over it: by the session that authenticates it, and by
// what it says.
func TestChangedQuote(t *testing.T) {
	data := evidence.Digest{0xda, 0x7a, 0xda, 0x7a, 0xda, 0x7a}
	tests := []struct {
		name string
		from []byte
		to   []byte
	}{
		{"wrong magic", []byte("\xffTCG\x80\x18"), []byte("\xfeTCG\x80\x18")},
		{"other type", []byte("\xffTCG\x80\x18"), []byte("\xffTCG\x80\x14")},
		{"other qualifying data", data[:6], []byte("\xda\x7a\xda\x7a\xda\x7b")},
		{"other selection", []byte{0x00, 0x0b, 3, 0xff, 0xff, 0x00}, []byte{0x00, 0x0b, 3, 0xff, 0x7f, 0x01}},
		{"other bank", []byte{0x00, 0x0b, 3, 0xff, 0xff, 0x00}, []byte{0x00, 0x0c, 3, 0xff, 0xff, 0x00}},
	}
	v, d := newTPM(t)
	for _, tt := range tests {
		found := false
		v.Device = &meddler{Device: d, after: func(b []byte) []byte {
			found = bytes.Contains(b, tt.from)
			return bytes.Replace(b, tt.from, tt.to, 1)
		}}
		_, err := v.Quote(t.Context(), data)
		if !found {
			t.Fatalf("%s: nothing was changed", tt.name)
		}
		if err == nil {
			t.Errorf("%s: the quote was taken", tt.name)
		}
	}
}

func TestExtendReadBoot(t *testing.T) {
	v, _ := newTPM(t)
	banks, err := v.Banks(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	before, err := v.Read(t.Context(), 14)
	if err != nil {
		t.Fatal(err)
	}
	if len(before) != len(banks) || len(banks) < 2 {
		t.Fatalf("%d banks read, %d are active: this test wants several", len(before), len(banks))
	}
	if err := v.Extend(t.Context(), 14, pcr.Digests(banks, []byte("x"))); err != nil {
		t.Fatal(err)
	}
	after, err := v.Read(t.Context(), 14)
	if err != nil {
		t.Fatal(err)
	}
	for i := range after {
		want := banks[i].Sum(before[i].Value, banks[i].Sum([]byte("x")))
		if !bytes.Equal(after[i].Value, want) {
			t.Errorf("bank %v: %x, want %x", banks[i], after[i].Value, want)
		}
	}
	boot, err := v.Boot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	again, err := v.Boot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if boot.ResetCount != again.ResetCount || !bytes.Equal(boot.AKName, v.AK.Name()) {
		t.Errorf("boot %+v, then %+v", boot, again)
	}
}

// TestBootCountsResets holds the half of case 88 that is the TPM's: each reset is
// counted, a restart of the daemon is not.
func TestBootCountsResets(t *testing.T) {
	sw := swtpm.Start(t)
	var stored *tpmkeys.Blob
	boot := func(d *tpm.Device) uint32 {
		t.Helper()
		var ak *tpmkeys.AK
		err := d.Do(t.Context(), func(tp transport.TPM) (err error) {
			ak, err = tpmkeys.Provision(tp, stored, tpmkeys.Auths{})
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		stored = ak.Blob()
		s, err := pcr.ParseSelection("sha256:14")
		if err != nil {
			t.Fatal(err)
		}
		b, err := (&vtpm.TPM{Device: d, AK: ak, Selection: s}).Boot(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return b.ResetCount
	}
	d := sw.Device(tpm.Options{})
	first := boot(d)
	if again := boot(d); again != first {
		t.Errorf("reset count %d without a reset, it was %d", again, first)
	}
	d.Close()
	sw.Reboot()
	if after := boot(sw.Device(tpm.Options{})); after == first {
		t.Error("a reset of the TPM does not show")
	}
}

// SPDX-License-Identifier: Apache-2.0

package azure

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/cvm-agentd/agentd/internal/platform"
	"github.com/cvm-agentd/agentd/internal/platform/soft"
	"github.com/cvm-agentd/agentd/internal/platform/soft/paravisor"
	"github.com/cvm-agentd/agentd/internal/tpm"
	"github.com/cvm-agentd/agentd/internal/tpm/tpmkeys"
	"github.com/cvm-agentd/agentd/internal/tpmwire"
	"github.com/cvm-agentd/agentd/test/swtpm"
)

// Times of the double in tests: it makes a report anew after 20 ms, and the room waits 25.
const (
	holds  = 20 * time.Millisecond
	renews = 25 * time.Millisecond
)

// machine is a vTPM with a paravisor.
type machine struct {
	t         *testing.T
	tpm       *swtpm.TPM
	paravisor *paravisor.Paravisor
	device    *tpm.Device
}

func newMachine(t *testing.T) *machine {
	t.Helper()
	return machineHolding(t, holds)
}

// machineHolding is a machine whose reports are kept that long.
func machineHolding(t *testing.T, hold time.Duration) *machine {
	t.Helper()
	m := &machine{t: t, tpm: swtpm.Start(t)}
	p, err := soft.New(soft.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	if m.paravisor, err = paravisor.New(m.tpm.Process(), p, paravisor.Options{Hold: hold}); err != nil {
		t.Fatal(err)
	}
	m.device = tpm.New(m.paravisor, tpm.Options{})
	return m
}

func (m *machine) open(o Options) (*Device, error) {
	o.Renewal = cmp.Or(o.Renewal, renews)
	return Open(m.t.Context(), func() (*tpm.Device, bool) { return m.device, true }, o)
}

func (m *machine) opened() *Device {
	m.t.Helper()
	d, err := m.open(Options{})
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() { d.Close() })
	return d
}

// do runs commands as another program of the guest.
func (m *machine) do(f func(transport.TPM) error) {
	m.t.Helper()
	if err := m.device.Do(m.t.Context(), f); err != nil {
		m.t.Fatal(err)
	}
}

// noAuths are those of hierarchies without authorization.
var noAuths tpmkeys.Auths

var owner = tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: tpm2.PasswordAuth(nil)}

// define defines an index as another program of the guest.
func (m *machine) define(p tpm2.TPMSNVPublic) {
	m.t.Helper()
	p.NameAlg = tpm2.TPMAlgSHA256
	m.do(func(t transport.TPM) error {
		_, err := tpm2.NVDefineSpace{AuthHandle: owner, PublicInfo: tpm2.New2B(p)}.Execute(t)
		return err
	})
}

func data(b byte) (d [64]byte) {
	for i := range d {
		d[i] = b
	}
	return d
}

// TestReport: each report is over the 64 bytes that were asked for, although the first read after
// each write would give the one of before. It is as evidence wants it: nothing follows it.
func TestReport(t *testing.T) {
	m := newMachine(t)
	d := m.opened()
	stapled := [][]byte{{1, 2}}
	if err := d.Staple(stapled); err != nil {
		t.Fatal(err)
	}
	for b := range byte(4) {
		r, err := d.Report(t.Context(), platform.Fixed(data(b)))
		if err != nil {
			t.Fatal(err)
		}
		h, err := tpmwire.ParseHCLOfSNP(r.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		if want := data(b); !bytes.Equal(h.UserData, want[:]) || len(r.Certificates) != 1 {
			t.Errorf("user data %x, %d certificates", h.UserData, len(r.Certificates))
		}
	}
	if d.Keys() != nil || d.Kind() != "azure-hcl" {
		t.Errorf("kind %s, keys %v", d.Kind(), d.Keys())
	}
}

// TestTwoSeconds: case 141. A report of before that comes back silently is noticed and waited for.
func TestTwoSeconds(t *testing.T) {
	m := machineHolding(t, time.Second)
	d, err := m.open(Options{Renewal: time.Second + renews})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	m.do(func(x transport.TPM) error { // another program reads, and so begins the two seconds
		_, err := readReport(x, noAuths)
		return err
	})
	before := m.paravisor.Reports()
	r, err := d.Report(t.Context(), platform.Fixed(data(7)))
	if err != nil {
		t.Fatal(err)
	}
	if h, err := tpmwire.ParseHCL(r.Bytes); err != nil || h.UserData[0] != 7 {
		t.Errorf("user data %x, %v", h.UserData, err)
	}
	if n := m.paravisor.Reports() - before; n == 0 {
		t.Error("no report was made anew")
	}
}

// TestSpacing: requests are apart by the paravisor's two seconds, whatever spacing is set, so
// that each needs one try.
func TestSpacing(t *testing.T) {
	m := newMachine(t)
	d := m.opened()
	for b := range byte(3) {
		if _, err := d.Report(t.Context(), platform.Fixed(data(b))); err != nil {
			t.Fatal(err)
		}
		if d.last.IsZero() {
			t.Fatal("the time of the last read is not known")
		}
	}
	began := d.last
	if _, err := d.Report(t.Context(), platform.Fixed(data(9))); err != nil || d.last.Sub(began) < renews {
		t.Errorf("two requests are %v apart, %v", d.last.Sub(began), err)
	}
}

// TestRefused: what a paravisor, its host or another program can put there instead. Each has an
// error with a kind of its own, and nothing of it becomes a report.
func TestRefused(t *testing.T) {
	fill := func(c byte) func([]byte) []byte {
		return func(b []byte) []byte { return bytes.Repeat([]byte{c}, len(b)) }
	}
	replace := func(from, to string) func(string) string {
		return func(s string) string { return strings.Replace(s, from, to, 1) }
	}
	set := func(at int, v byte) func([]byte) []byte {
		return func(b []byte) []byte { b[at] = v; return b }
	}
	for name, c := range map[string]struct {
		faults paravisor.Faults
		is     error
		says   string
	}{
		"case 141 never anew":      {paravisor.Faults{Stale: true}, platform.ErrStale, "10 tries"},
		"case 141 another program": {paravisor.Faults{Race: true}, platform.ErrStale, "another program"},
		"case 115 another AK":      {paravisor.Faults{OtherKey: true}, platform.ErrOtherKey, "0x81000003"},
		"VMPL 1":                   {paravisor.Faults{VMPL: 1}, platform.ErrVMPL, "VMPL 1"},
		"garbage":                  {paravisor.Faults{Blob: fill(0xa5)}, platform.ErrMalformed, "HCLA"},
		"zeros":                    {paravisor.Faults{Blob: fill(0)}, platform.ErrMalformed, "HCLA"},
		"size of the whole":        {paravisor.Faults{Blob: set(8, 0xff)}, platform.ErrMalformed, "sizes"},
		"size of the runtime data": {paravisor.Faults{Blob: set(1235, 0xff)}, platform.ErrMalformed, "runtime data"},
		"unknown hash":             {paravisor.Faults{Blob: set(1228, 9)}, platform.ErrMalformed, "algorithm 9"},
		"TDX":                      {paravisor.Faults{Blob: set(1224, 4)}, platform.ErrMalformed, "type 4"},
		"something after it":       {paravisor.Faults{Blob: func(b []byte) []byte { b[len(b)-1] = 1; return b }}, platform.ErrMalformed, "follows"},
		"a report over other data": {paravisor.Faults{Blob: func(b []byte) []byte { b[32+atReportData] ^= 0xff; return b }}, platform.ErrStale, "made anew while it was read"},
		"runtime data altered":     {paravisor.Faults{Blob: func(b []byte) []byte { return bytes.Replace(b, []byte("secure"), []byte("Secure"), 1) }}, platform.ErrStale, "other runtime data"},
		"no user data":             {paravisor.Faults{Runtime: replace("user-data", "user-date")}, platform.ErrStale, "user data"},
		"short user data":          {paravisor.Faults{Runtime: replace(`"user-data":"`, `"user-data":"00","x":"`)}, platform.ErrMalformed, "64 bytes"},
		"no key":                   {paravisor.Faults{Runtime: replace("HCLAkPub", "HCLAkPriv")}, platform.ErrMalformed, "HCLAkPub"},
		"a member twice":           {paravisor.Faults{Runtime: replace(`{"keys"`, `{"keys":[],"keys"`)}, platform.ErrMalformed, "keys"},
		"not JSON":                 {paravisor.Faults{Runtime: replace(`{`, `[`)}, platform.ErrMalformed, "runtime data"},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			d := m.opened()
			m.paravisor.SetFaults(c.faults)
			if c.faults.Race || c.faults.Stale { // the index has to be there before another program writes it
				m.define(tpm2.TPMSNVPublic{NVIndex: nvUserData, Attributes: userDataAttributes, DataSize: 64})
			}
			r, err := d.Report(t.Context(), platform.Fixed(data(7)))
			if !errors.Is(err, c.is) || !strings.Contains(err.Error(), c.says) || r.Bytes != nil {
				t.Fatalf("got %v, want %v and %q", err, c.is, c.says)
			}
			m.paravisor.SetFaults(paravisor.Faults{})
			if _, err := d.Report(t.Context(), platform.Fixed(data(8))); err != nil {
				t.Errorf("afterwards: %v", err)
			}
		})
	}
}

// TestTorn: a blob that was made anew while it was read in pieces is read once more, and never
// put together.
func TestTorn(t *testing.T) {
	m := newMachine(t)
	d := m.opened()
	n := 0
	m.paravisor.SetFaults(paravisor.Faults{Blob: func(b []byte) []byte {
		if n++; n == 1 {
			b[1300] ^= 0xff
		}
		return b
	}})
	if _, err := d.Report(t.Context(), platform.Fixed(data(7))); err != nil || n != 2 {
		t.Errorf("%d reports, %v", n, err)
	}
}

// TestIndexOfTheReport: an index with another size or other attributes is not the paravisor's.
func TestIndexOfTheReport(t *testing.T) {
	read := tpm2.TPMANV{OwnerWrite: true, OwnerRead: true, NT: tpm2.TPMNTOrdinary}
	for name, c := range map[string]struct {
		area tpm2.TPMSNVPublic
		is   error
		says string
	}{
		"absent":        {tpm2.TPMSNVPublic{}, platform.ErrAbsent, "no NV index"},
		"too small":     {tpm2.TPMSNVPublic{Attributes: read, DataSize: 1235}, platform.ErrMalformed, "has 1235 bytes"},
		"a counter":     {tpm2.TPMSNVPublic{Attributes: tpm2.TPMANV{OwnerWrite: true, OwnerRead: true, NT: tpm2.TPMNTCounter}, DataSize: 8}, platform.ErrMalformed, "has 8 bytes"},
		"by policy":     {tpm2.TPMSNVPublic{Attributes: tpm2.TPMANV{OwnerWrite: true, PolicyRead: true, NT: tpm2.TPMNTOrdinary}, DataSize: 2048}, platform.ErrMalformed, "neither"},
		"never written": {tpm2.TPMSNVPublic{Attributes: read, DataSize: 2048}, platform.ErrMalformed, "never written"},
	} {
		t.Run(name, func(t *testing.T) {
			m := &machine{t: t, tpm: swtpm.Start(t)}
			m.device = m.tpm.Device(tpm.Options{})
			if c.area.DataSize > 0 {
				c.area.NVIndex = nvReport
				m.define(c.area)
			}
			d, err := m.open(Options{})
			if err == nil {
				_, err = d.Report(t.Context(), platform.Fixed(data(7)))
			}
			if !errors.Is(err, c.is) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v, want %q", err, c.says)
			}
		})
	}
}

// TestIndexOfTheUserData: the agent defines it if it is absent, uses one that another program
// defined, and refuses one of another kind with a remedy. It never removes one.
func TestIndexOfTheUserData(t *testing.T) {
	both := tpm2.TPMANV{OwnerWrite: true, OwnerRead: true, NT: tpm2.TPMNTOrdinary}
	for name, c := range map[string]struct {
		area tpm2.TPMSNVPublic
		says string
	}{
		"absent":          {tpm2.TPMSNVPublic{}, ""},
		"of tpm2-tools":   {tpm2.TPMSNVPublic{Attributes: tpm2.TPMANV{OwnerWrite: true, AuthWrite: true, PolicyWrite: true, OwnerRead: true, AuthRead: true, PolicyRead: true, NT: tpm2.TPMNTOrdinary}, DataSize: 64}, ""},
		"another size":    {tpm2.TPMSNVPublic{Attributes: both, DataSize: 32}, "has 32 bytes, want 64: find out which program made it"},
		"larger":          {tpm2.TPMSNVPublic{Attributes: both, DataSize: 65}, "has 65 bytes"},
		"a counter":       {tpm2.TPMSNVPublic{Attributes: tpm2.TPMANV{OwnerWrite: true, OwnerRead: true, NT: tpm2.TPMNTCounter}, DataSize: 8}, "has 8 bytes"},
		"written by none": {tpm2.TPMSNVPublic{Attributes: tpm2.TPMANV{PolicyWrite: true, OwnerRead: true, NT: tpm2.TPMNTOrdinary}, DataSize: 64}, "cannot be written"},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			if c.area.DataSize > 0 {
				c.area.NVIndex = nvUserData
				m.define(c.area)
			}
			d := m.opened()
			_, err := d.Report(t.Context(), platform.Fixed(data(7)))
			if c.says == "" && err != nil || c.says != "" && (!errors.Is(err, platform.ErrMalformed) || !strings.Contains(err.Error(), c.says)) {
				t.Errorf("got %v, want %q", err, c.says)
			}
		})
	}
}

// TestEnds: a request ends with its caller, its time or the device, and others go on.
func TestEnds(t *testing.T) {
	m := newMachine(t)
	d := m.opened()
	m.paravisor.SetFaults(paravisor.Faults{Stale: true})
	ctx, cancel := context.WithCancel(t.Context())
	if _, err := d.Report(ctx, func(context.Context) ([64]byte, error) { cancel(); return data(1), nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("the caller left: %v", err)
	}
	short, err := m.open(Options{Timeout: 2 * renews})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := short.Report(t.Context(), platform.Fixed(data(1))); !errors.Is(err, platform.ErrTimedOut) {
		t.Errorf("its time is over: %v", err)
	}
	none := errors.New("no data")
	if _, err := d.Report(t.Context(), func(context.Context) ([64]byte, error) { return [64]byte{}, none }); !errors.Is(err, none) {
		t.Errorf("without data: %v", err)
	}
	m.paravisor.SetFaults(paravisor.Faults{})
	if _, err := d.Report(t.Context(), platform.Fixed(data(2))); err != nil {
		t.Errorf("afterwards: %v", err)
	}
	d.Close()
	if _, err := d.Report(t.Context(), platform.Fixed(data(3))); !errors.Is(err, errClosed) {
		t.Errorf("closed: %v", err)
	}
	off, err := Open(t.Context(), func() (*tpm.Device, bool) { return nil, false }, Options{})
	if !errors.Is(err, platform.ErrNotYet) || off != nil {
		t.Errorf("without a TPM: %v", err)
	}
}

// SPDX-License-Identifier: Apache-2.0

package svsm_test

import (
	"bytes"
	"context"
	"crypto/sha512"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/evidencetest"
	"github.com/cvm-agentd/agentd/internal/platform"
	"github.com/cvm-agentd/agentd/internal/platform/configfs"
	"github.com/cvm-agentd/agentd/internal/platform/snp"
	"github.com/cvm-agentd/agentd/internal/platform/soft"
	double "github.com/cvm-agentd/agentd/internal/platform/soft/svsm"
	"github.com/cvm-agentd/agentd/internal/platform/soft/tsm"
	"github.com/cvm-agentd/agentd/internal/platform/svsm"
	"github.com/cvm-agentd/agentd/internal/tpmwire"
	report "github.com/cvm-agentd/agentd/verify/snp"
)

var (
	data = [64]byte{7, 7, 7}
	ek   = evidencetest.EK('e')
	ak   = evidencetest.ECCKey('k').Public()
)

// guest returns an SVSM in software. It knows version 1 if withAK is set.
func guest(t testing.TB, withAK bool) *double.SVSM {
	t.Helper()
	p, err := soft.New(soft.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	s := &double.SVSM{Firmware: p.Transport(), EK: func() ([]byte, error) { return ek, nil }}
	if withAK {
		s.AK = func() ([]byte, error) { return ak, nil }
	}
	return s
}

// open opens the platform as the agent does. Driver may be nil.
func open(t testing.TB, e configfs.Attributes, driver snp.Transport, o snp.Options, has svsm.Has) (*svsm.Device, error) {
	t.Helper()
	o.VMPL, o.WithoutKeys = double.GuestVMPL, driver == nil
	d, err := snp.New(configfs.ForServices(e, driver), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	return svsm.New(t.Context(), d, has)
}

func always(there bool) svsm.Has {
	return func(_ context.Context, public []byte) (bool, error) {
		return there && bytes.Equal(public, ak), nil
	}
}

// TestReport: a report is the firmware's of VMPL 0, over our bytes and the manifest, which
// follows it. Version 1 is asked for only if the SVSM knows it, the TPM has its key, and the
// agent would quote with that.
func TestReport(t *testing.T) {
	for name, c := range map[string]struct {
		knows   bool
		has     svsm.Has
		version uint32
	}{
		"version 0 is all it knows": {false, always(true), 0},
		"version 1":                 {true, always(true), 1},
		"the TPM lacks the key":     {true, always(false), 0},
		"a key of the agent's own":  {true, nil, 0},
	} {
		t.Run(name, func(t *testing.T) {
			s := guest(t, c.knows)
			d, err := open(t, s.Entry(), s.Guest(), snp.Options{}, c.has)
			if err != nil {
				t.Fatal(err)
			}
			got, err := d.Report(t.Context(), platform.Fixed(data))
			if err != nil || len(got.Certificates) != 3 {
				t.Fatalf("%d certificates, %v", len(got.Certificates), err)
			}
			manifest := got.Bytes[report.ReportSize:]
			m, err := tpmwire.ParseManifest(manifest)
			if err != nil || m.Version != c.version || !bytes.Equal(m.EK, ek) || !bytes.Equal(d.EK(), ek) || !bytes.Equal(m.AK, d.AK()) || (m.AK != nil) != (c.version == 1) {
				t.Errorf("manifest %+v, AK %x, %v", m, d.AK(), err)
			}
			r, err := report.ParseReport(got.Bytes[:report.ReportSize])
			if err != nil || r.VMPL != 0 || r.ReportData != sha512.Sum512(slices.Concat(data[:], manifest)) || d.Kind() != evidence.ReportSVSM {
				t.Errorf("VMPL %d, report data %x, kind %s, %v", r.VMPL, r.ReportData[:3], d.Kind(), err)
			}
			now, err := d.Keys().Reading(t.Context())
			if err != nil || now.VMPL != double.GuestVMPL {
				t.Fatalf("keys are of VMPL %d, %v", now.VMPL, err)
			}
			k, err := d.Keys().DeriveKey(t.Context(), now.TCB)
			if err != nil {
				t.Fatal(err)
			}
			k.Wipe()
		})
	}
}

// TestWithoutDriver: without the SNP driver's device there are reports, and neither keys nor
// certificates of the host.
func TestWithoutDriver(t *testing.T) {
	d, err := open(t, guest(t, false).Entry(), nil, snp.Options{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := d.Report(t.Context(), platform.Fixed(data)); err != nil || len(got.Certificates) != 0 || d.Keys() != nil {
		t.Errorf("%d certificates, keys %v, %v", len(got.Certificates), d.Keys(), err)
	}
	if err := d.Staple([][]byte{{1}}); err != nil {
		t.Fatal(err)
	}
	if got, err := d.Report(t.Context(), platform.Fixed(data)); err != nil || len(got.Certificates) != 1 {
		t.Errorf("%d certificates, %v", len(got.Certificates), err)
	}
}

// TestGarbage: what is not a report over our bytes and a manifest is an error, at the opening or
// later, and never leads to a weaker report.
func TestGarbage(t *testing.T) {
	for name, c := range map[string]struct {
		change func(s *double.SVSM)
		is     error
	}{
		"a byte after the manifest": {func(s *double.SVSM) { s.Manifest = func(m []byte) []byte { return append(m, 0) } }, platform.ErrMalformed},
		"no manifest":               {func(s *double.SVSM) { s.Manifest = func([]byte) []byte { return nil } }, platform.ErrMalformed},
		"a huge manifest":           {func(s *double.SVSM) { s.Manifest = func([]byte) []byte { return make([]byte, 40<<10) } }, platform.ErrMalformed},
		"that of all services": {func(s *double.SVSM) {
			s.Manifest = func(m []byte) []byte {
				return evidencetest.Services(tpmwire.Service{GUID: tpmwire.ServiceVTPM, Data: m})
			}
		}, tpmwire.ErrServices},
		"the other version":              {func(s *double.SVSM) { s.Manifest = func([]byte) []byte { return otherVersion(s) } }, platform.ErrMalformed},
		"another manifest than hashed":   {func(s *double.SVSM) { s.Hand = func([]byte) []byte { return evidencetest.EK('g') } }, platform.ErrMalformed},
		"the endorsement key is missing": {func(s *double.SVSM) { s.EK = func() ([]byte, error) { return nil, unix.EINVAL } }, platform.ErrFirmware},
		"the SVSM is throttled":          {func(s *double.SVSM) { s.EK = func() ([]byte, error) { return nil, unix.EAGAIN } }, platform.ErrBusy},
	} {
		for _, knows := range []bool{false, true} {
			s := guest(t, knows)
			c.change(s)
			var has svsm.Has
			if knows {
				has = always(true)
			}
			d, err := open(t, s.Entry(), s.Guest(), snp.Options{}, has)
			if err == nil {
				_, err = d.Report(t.Context(), platform.Fixed(data))
			}
			if !errors.Is(err, c.is) {
				t.Errorf("%s, version 1 %v: %v", name, knows, err)
			}
		}
	}
}

// otherVersion returns the manifest of the version that s was not asked for.
func otherVersion(s *double.SVSM) []byte {
	if s.AK == nil {
		return evidencetest.Manifest(ek, ak)
	}
	return ek
}

// TestAnotherKey: if the manifest names another key than at the start, evidence of the agent
// would be refused: that is said.
func TestAnotherKey(t *testing.T) {
	s := guest(t, true)
	d, err := open(t, s.Entry(), s.Guest(), snp.Options{}, always(true))
	if err != nil {
		t.Fatal(err)
	}
	good := *s
	for _, change := range []func(){
		func() { s.AK = func() ([]byte, error) { return evidencetest.ECCKey('x').Public(), nil } },
		func() { s.EK = func() ([]byte, error) { return evidencetest.EK('g'), nil } },
	} {
		*s = good
		change()
		if _, err := d.Report(t.Context(), platform.Fixed(data)); !errors.Is(err, platform.ErrMalformed) || !strings.Contains(err.Error(), "another key than when the agent started") {
			t.Error(err)
		}
	}
}

// TestOtherProgram: another program that asks the SVSM through the same entry makes the report
// come late, or not at all, and never gets its data into ours.
func TestOtherProgram(t *testing.T) {
	for _, times := range []int{1, 2, 100} {
		s, left := guest(t, false), 0
		e := tsm.New(tsm.Options{Firmware: s.Guest(), Floor: double.GuestVMPL, SVSM: s.Report, Before: func(e *tsm.Entry, write bool, attribute string) error {
			if !write && attribute == configfs.OutBlob && left > 0 {
				left--
				return e.WriteBeside(configfs.InBlob, bytes.Repeat([]byte{9}, 64))
			}
			return nil
		}})
		d, err := open(t, e, s.Guest(), snp.Options{}, nil)
		if err != nil {
			t.Fatal(err)
		}
		left = times
		got, err := d.Report(t.Context(), platform.Fixed(data))
		switch {
		case err != nil && (times < 3 || !errors.Is(err, platform.ErrBusy)):
			t.Errorf("%d times: %v", times, err)
		case err == nil:
			r, err := report.ParseReport(got.Bytes[:report.ReportSize])
			if err != nil || r.ReportData != sha512.Sum512(slices.Concat(data[:], ek)) {
				t.Errorf("%d times: another report, %v", times, err)
			}
		}
	}
}

// TestSpacing: requests to the SVSM and to the firmware are at least two seconds apart, whichever
// comes first: a host that throttles can end an SVSM.
func TestSpacing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := guest(t, true)
		d, err := open(t, s.Entry(), s.Guest(), snp.Options{Spacing: svsm.MinSpacing}, always(false))
		if err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		if _, err := d.Report(t.Context(), platform.Fixed(data)); err != nil { // after the look for version 1, and then the host's table
			t.Fatal(err)
		}
		if _, err := d.Keys().Reading(t.Context()); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(begin); took < 3*svsm.MinSpacing {
			t.Errorf("three requests after one took %v", took)
		}
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
}

// TestVersionOneFails: only the answer of an SVSM that does not know version 1 leads to version 0.
// Otherwise a request that fails once would cost the machine the attestation key of its manifest.
func TestVersionOneFails(t *testing.T) {
	for err, is := range map[error]error{
		unix.EIO: platform.ErrFirmware, unix.ENOMEM: platform.ErrFirmware, unix.EACCES: platform.ErrFirmware,
		unix.EMFILE: platform.ErrFirmware, unix.EAGAIN: platform.ErrBusy, unix.ENOTTY: platform.ErrKeyWiped,
	} {
		s := guest(t, true)
		s.AK = func() ([]byte, error) { return nil, err }
		if d, got := open(t, s.Entry(), s.Guest(), snp.Options{}, always(true)); !errors.Is(got, is) || !errors.Is(got, err) {
			t.Errorf("%v: opened: %v, %v", err, d != nil, got)
		}
	}
}

// TestVersionOneRefused: Linux has one error for all that an SVSM refuses. A request for version 1 that
// fails once does not cost the machine its attestation key, and one that always fails is an unknown
// version only if version 0 is answered in between.
func TestVersionOneRefused(t *testing.T) {
	for name, c := range map[string]struct {
		fails   int // requests for version 1 that are refused
		between bool
		there   bool // the TPM has the key
		version uint32
		made    int   // reports
		err     error // nil: opened
	}{
		"never":                          {0, false, true, 1, 1, nil},
		"once":                           {1, false, true, 1, 2, nil},
		"once, another key":              {1, false, false, 0, 2, nil},
		"always":                         {100, false, true, 0, 1, nil},
		"always, and version 0 fails":    {100, true, true, 0, 0, unix.EINVAL},
		"the first, and version 0 fails": {1, true, true, 0, 0, unix.EINVAL},
	} {
		s := guest(t, true)
		left := c.fails
		s.AK = func() ([]byte, error) {
			if left--; left >= 0 {
				return nil, unix.EINVAL
			}
			return ak, nil
		}
		if c.between {
			s.EK = func() ([]byte, error) { return nil, unix.EINVAL }
		}
		e := s.Entry()
		d, err := open(t, e, s.Guest(), snp.Options{}, always(c.there))
		if !errors.Is(err, c.err) || (err == nil) != (c.err == nil) {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if err != nil {
			continue
		}
		got, err := d.Report(t.Context(), platform.Fixed(data))
		if err != nil {
			t.Fatal(err)
		}
		if m, err := tpmwire.ParseManifest(got.Bytes[report.ReportSize:]); err != nil || m.Version != c.version || e.Made() != c.made+1 {
			t.Errorf("%s: version %d, %d reports made, %v", name, m.Version, e.Made(), err)
		}
	}
}

// refusing is a driver's device that refuses all that is asked.
type refusing struct {
	snp.Transport
	asked int
}

func (r *refusing) Exchange(*snp.Message) (uint64, error) {
	r.asked++
	return 0, unix.EIO
}

// TestCertificatesThatFail: a host that gives the guest no report does not slow each report of the
// SVSM down, and is asked again later.
func TestCertificatesThatFail(t *testing.T) {
	s := guest(t, false)
	synctest.Test(t, func(t *testing.T) {
		r := &refusing{Transport: s.Guest()}
		d, err := open(t, s.Entry(), r, snp.Options{}, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		ask := func(want int) {
			for range 3 {
				if _, err := d.Report(t.Context(), platform.Fixed(data)); err != nil {
					t.Fatal(err)
				}
			}
			if r.asked != want {
				t.Errorf("the host was asked %d times, want %d", r.asked, want)
			}
		}
		ask(1)
		time.Sleep(10 * time.Minute)
		ask(2)
	})
}

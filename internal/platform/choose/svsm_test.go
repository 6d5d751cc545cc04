// SPDX-License-Identifier: Apache-2.0

package choose

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/evidencetest"
	"github.com/cvm-agentd/agentd/internal/platform"
	"github.com/cvm-agentd/agentd/internal/platform/configfs"
	"github.com/cvm-agentd/agentd/internal/platform/snp"
	"github.com/cvm-agentd/agentd/internal/platform/soft"
	double "github.com/cvm-agentd/agentd/internal/platform/soft/svsm"
	"github.com/cvm-agentd/agentd/internal/platform/soft/tsm"
	"github.com/cvm-agentd/agentd/internal/platform/svsm"
	"github.com/cvm-agentd/agentd/internal/tpm"
	"github.com/cvm-agentd/agentd/test/swtpm"
)

// above returns the devices of a guest above an SVSM that knows version 1 with this key.
func above(t *testing.T, ak []byte) (*Devices, *tsm.Entry) {
	t.Helper()
	p, err := soft.New(soft.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	s := &double.SVSM{Firmware: p.Transport(), EK: func() ([]byte, error) { return evidencetest.EK('e'), nil }, AK: func() ([]byte, error) { return ak, nil }}
	e := s.Entry()
	return &Devices{SEVGuest: func() (snp.Transport, error) { return s.Guest(), nil }, Entry: e}, e
}

func notUp() (*tpm.Device, bool) { return nil, false }

// persistentKey returns a vTPM and the attestation key that it keeps.
func persistentKey(t *testing.T) (platform.TPM, []byte) {
	t.Helper()
	s := swtpm.Start(t)
	ak, err := double.Attestation(s)
	if err != nil {
		t.Fatal(err)
	}
	d := s.Device(tpm.Options{})
	return func() (*tpm.Device, bool) { return d, true }, ak
}

// TestSVSM: above an SVSM the reports are the SVSM's, at the guest's own level for everything
// else. If the TPM has the attestation key of the manifest, the choice names it.
func TestSVSM(t *testing.T) {
	up, ak := persistentKey(t)
	for name, c := range map[string]struct {
		ak    []byte
		own   bool
		tpm   platform.TPM
		named []byte
	}{
		"the TPM has the key":          {ak: ak, tpm: up, named: ak},
		"the TPM has another":          {ak: evidencetest.ECCKey('k').Public(), tpm: up},
		"the agent has one of its own": {ak: ak, own: true, tpm: notUp},
	} {
		for _, want := range []platform.Name{platform.Auto, platform.SVSM} {
			d, _ := above(t, c.ak)
			d.OwnAK = c.own
			p, choice, err := d.Open(want, snp.Options{})(t.Context(), c.tpm)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			defer p.Close()
			if choice.Machine != platform.MachineSVSM || choice.Source != platform.SourceSVSM || !choice.Keys || !bytes.Equal(choice.AK, c.named) || !bytes.Equal(choice.EK, evidencetest.EK('e')) || p.Kind() != evidence.ReportSVSM {
				t.Errorf("%s, %s: %+v, kind %s", name, want, choice, p.Kind())
			}
			if named := strings.Contains(choice.Why, "the SVSM names the attestation key"); named != (c.named != nil) || !named && !strings.Contains(choice.Why, "enrolled") {
				t.Errorf("%s, %s: %s", name, want, choice.Why)
			}
			if now, err := p.Keys().Reading(t.Context()); err != nil || now.VMPL != double.GuestVMPL {
				t.Errorf("%s, %s: keys of VMPL %d, %v", name, want, now.VMPL, err)
			}
		}
	}
}

// TestSVSMSpacing: requests to the SVSM of a real machine are two seconds apart, whatever the
// configuration says.
func TestSVSMSpacing(t *testing.T) {
	if got := Linux("", "").SVSMSpacing; got != svsm.MinSpacing {
		t.Fatalf("%v, want %v", got, svsm.MinSpacing)
	}
	synctest.Test(t, func(t *testing.T) {
		d, _ := above(t, nil)
		d.OwnAK, d.SVSMSpacing = true, svsm.MinSpacing
		begin := time.Now()
		p, _, err := d.Open(platform.SVSM, snp.Options{Spacing: time.Millisecond})(t.Context(), notUp)
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		if _, err := p.Report(t.Context(), platform.Fixed([64]byte{})); err != nil || time.Since(begin) < svsm.MinSpacing {
			t.Errorf("after %v: %v", time.Since(begin), err)
		}
	})
}

// TestSVSMNotYet: until the TPM is up nothing is asked, and no weaker way is taken.
func TestSVSMNotYet(t *testing.T) {
	d, e := above(t, evidencetest.ECCKey('k').Public())
	if _, _, err := d.Open(platform.Auto, snp.Options{})(t.Context(), notUp); !errors.Is(err, platform.ErrNotYet) || e.Made() != 0 {
		t.Errorf("%v, %d reports made", err, e.Made())
	}
}

// TestSVSMThatFails: an SVSM that gives no report is an error, and no weaker way is taken.
func TestSVSMThatFails(t *testing.T) {
	d, _ := above(t, nil) // a manifest that is none
	up, _ := persistentKey(t)
	if p, c, err := d.Open(platform.Auto, snp.Options{})(t.Context(), up); !errors.Is(err, platform.ErrMalformed) {
		t.Errorf("%v, %+v, %v", p, c, err)
	}
}

// broken is an entry of which an attribute cannot be looked for.
type broken struct{ configfs.Attributes }

func (broken) Has(string) (bool, error) { return false, fs.ErrPermission }

// TestLookForSVSM: the attributes of services tell an SVSM. What cannot be told is an error.
func TestLookForSVSM(t *testing.T) {
	p, err := soft.New(soft.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	plain := tsm.New(tsm.Options{Firmware: p.Transport()})
	with, _ := above(t, nil)
	for name, c := range map[string]struct {
		entry configfs.Attributes
		there bool
		fails bool
		says  string
	}{
		"above an SVSM": {with.Entry, true, false, "service provider"},
		"at VMPL 0":     {plain, false, false, "VMPL 0"},
		"no entry":      {configfs.Dir(t.TempDir() + "/none"), false, false, "does not exist"},
		"no permission": {broken{plain}, false, true, ""},
	} {
		f := lookForSVSM(context.Background(), &Devices{Entry: c.entry}, notUp)
		if f.there != c.there || (f.err != nil) != c.fails || !strings.Contains(f.says, c.says) {
			t.Errorf("%s: %+v", name, f)
		}
	}
}

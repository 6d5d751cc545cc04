// SPDX-License-Identifier: Apache-2.0

package choose

import (
	"errors"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"github.com/cvm-agentd/agentd/internal/platform"
	"github.com/cvm-agentd/agentd/internal/platform/configfs"
	"github.com/cvm-agentd/agentd/internal/platform/snp"
	"github.com/cvm-agentd/agentd/internal/platform/soft"
	"github.com/cvm-agentd/agentd/internal/platform/soft/paravisor"
	"github.com/cvm-agentd/agentd/internal/platform/soft/tsm"
	"github.com/cvm-agentd/agentd/internal/tpm"
	"github.com/cvm-agentd/agentd/internal/tpm/tpmkeys"
	"github.com/cvm-agentd/agentd/test/swtpm"
)

// with returns a TPM that has these NV indices of Google's, or none.
func with(t *testing.T, indices ...tpm2.TPMHandle) platform.TPM {
	t.Helper()
	s := swtpm.Start(t)
	for _, i := range indices {
		define(t, s, i, tpm2.TPMANV{OwnerRead: true, OwnerWrite: true, NT: tpm2.TPMNTOrdinary}, 64)
	}
	d := s.Device(tpm.Options{})
	return func() (*tpm.Device, bool) { return d, true }
}

// by returns the hierarchy whose authorization makes an index with these attributes.
func by(a tpm2.TPMANV) tpm2.TPMHandle {
	if a.PlatformCreate {
		return tpm2.TPMRHPlatform
	}
	return tpm2.TPMRHOwner
}

// define defines an NV index.
func define(t *testing.T, s *swtpm.TPM, i tpm2.TPMHandle, a tpm2.TPMANV, size uint16) {
	t.Helper()
	_, err := tpm2.NVDefineSpace{AuthHandle: by(a), PublicInfo: tpm2.New2B(tpm2.TPMSNVPublic{NVIndex: i, NameAlg: tpm2.TPMAlgSHA256, DataSize: size, Attributes: a})}.Execute(s)
	if err != nil {
		t.Fatal(err)
	}
}

// paravisors returns the TPM of a machine with a paravisor.
func paravisors(t *testing.T, p *soft.Platform) platform.TPM {
	t.Helper()
	v, err := paravisor.New(swtpm.Start(t).Process(), p, paravisor.Options{})
	if err != nil {
		t.Fatal(err)
	}
	d := tpm.New(v, tpm.Options{})
	return func() (*tpm.Device, bool) { return d, true }
}

// imitated returns a TPM whose owner defined the index of a paravisor's report, and wrote it unless
// content is empty. With PLATFORMCREATE it was the platform.
func imitated(t *testing.T, a tpm2.TPMANV, size uint16, content string, lock bool) platform.TPM {
	t.Helper()
	const index tpm2.TPMHandle = 0x01400001
	s := swtpm.Start(t)
	define(t, s, index, a, size)
	named := func() tpm2.NamedHandle { // the name changes at the first write
		rsp, err := tpm2.NVReadPublic{NVIndex: index}.Execute(s)
		if err != nil {
			t.Fatal(err)
		}
		return tpm2.NamedHandle{Handle: index, Name: rsp.NVName}
	}
	if content != "" {
		b := append([]byte(content), make([]byte, int(min(size, 512))-len(content))...)
		if _, err := (tpm2.NVWrite{AuthHandle: by(a), NVIndex: named(), Data: tpm2.TPM2BMaxNVBuffer{Buffer: b}}.Execute(s)); err != nil {
			t.Fatal(err)
		}
	}
	if lock {
		if _, err := (tpm2.NVReadLock{AuthHandle: tpm2.TPMRHOwner, NVIndex: named()}.Execute(s)); err != nil {
			t.Fatal(err)
		}
	}
	d := s.Device(tpm.Options{})
	return func() (*tpm.Device, bool) { return d, true }
}

// TestImitatedParavisor: elsewhere, the owner of the TPM can define the NV index that a paravisor
// has, with whatever content. The agent goes on as without it. What the platform made and cannot be
// read is waited for, and says what an administrator can do. Case 142.
func TestImitatedParavisor(t *testing.T) {
	p, err := soft.New(soft.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	owners := tpm2.TPMANV{OwnerRead: true, OwnerWrite: true, NT: tpm2.TPMNTOrdinary}
	platforms := tpm2.TPMANV{OwnerRead: true, PPWrite: true, PlatformCreate: true, NT: tpm2.TPMNTOrdinary}
	locked, lockedOwners := platforms, owners
	locked.ReadSTClear, lockedOwners.ReadSTClear = true, true
	for name, c := range map[string]struct {
		area    tpm2.TPMANV
		size    uint16
		content string
		lock    bool
		chosen  platform.Source // empty: an error
		says    string
	}{
		"too small":               {owners, 64, "HCLA", false, platform.SourceConfigFS, "has 64 bytes"},
		"never written":           {platforms, 2048, "", false, platform.SourceConfigFS, "was never written"},
		"zeros":                   {platforms, 2048, "\x00\x00\x00\x00", false, platform.SourceConfigFS, "begins with 00000000"},
		"almost":                  {platforms, 2048, "HCLB", false, platform.SourceConfigFS, "want the text HCLA"},
		"a counter":               {tpm2.TPMANV{OwnerRead: true, OwnerWrite: true, NT: tpm2.TPMNTCounter}, 8, "", false, platform.SourceConfigFS, "has 8 bytes"},
		"by policy":               {tpm2.TPMANV{PolicyRead: true, OwnerWrite: true, NT: tpm2.TPMNTOrdinary}, 2048, "HCLA", false, platform.SourceConfigFS, "neither the owner"},
		"could lock the TPM":      {tpm2.TPMANV{AuthRead: true, OwnerWrite: true, NT: tpm2.TPMNTOrdinary}, 2048, "HCLA", false, platform.SourceConfigFS, "risk of a lockout"},
		"the platform's, locked":  {locked, 2048, "HCLA", true, "", "set platform"},
		"the platform's":          {platforms, 2048, "HCLA", false, platform.SourceParavisor, "has a report of a paravisor"},
		"locked":                  {lockedOwners, 2048, "HCLA", true, platform.SourceConfigFS, "authorization of the TPM's owner"},
		"begins as a paravisor's": {owners, 2048, "HCLA", false, platform.SourceConfigFS, "authorization of the TPM's owner"},
	} {
		t.Run(name, func(t *testing.T) {
			of := imitated(t, c.area, c.size, c.content, c.lock)
			devices := &Devices{SEVGuest: Linux(filepath.Join(t.TempDir(), "none"), "").SEVGuest, Entry: tsm.New(tsm.Options{Firmware: p.Transport()})}
			opened, choice, err := devices.Open(platform.Auto, snp.Options{})(t.Context(), of)
			if c.chosen == "" {
				if err == nil || !strings.Contains(err.Error(), c.says) {
					t.Errorf("%+v, %v", choice, err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer opened.Close()
			if choice.Source != c.chosen || !strings.Contains(choice.Why, c.says) {
				t.Errorf("%+v", choice)
			}
		})
	}
}

// TestParavisorsOwner: a real paravisor's index is the platform's, which no program of the guest
// can define, write or remove. The files of authorizations are read only if there is the index.
func TestParavisorsOwner(t *testing.T) {
	p, err := soft.New(soft.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	unreadable := &Devices{Auths: func() (tpmkeys.Auths, error) { return tpmkeys.Auths{}, fs.ErrPermission }}
	if f := lookForParavisor(t.Context(), unreadable, with(t)); f.there || f.err != nil {
		t.Errorf("without an index: %+v", f)
	}
	of := paravisors(t, p)
	if f := lookForParavisor(t.Context(), unreadable, of); f.there || !errors.Is(f.err, fs.ErrPermission) {
		t.Errorf("with an index: %+v", f)
	}
	if f := lookForParavisor(t.Context(), &Devices{}, of); !f.there || strings.Contains(f.says, "owner") {
		t.Errorf("of a paravisor: %+v", f)
	}
	s := swtpm.Start(t)
	_, err = tpm2.NVDefineSpace{AuthHandle: tpm2.TPMRHOwner, PublicInfo: tpm2.New2B(tpm2.TPMSNVPublic{NVIndex: 0x01400001, NameAlg: tpm2.TPMAlgSHA256, DataSize: 2048,
		Attributes: tpm2.TPMANV{OwnerRead: true, OwnerWrite: true, PlatformCreate: true, NT: tpm2.TPMNTOrdinary}})}.Execute(s)
	if !errors.Is(err, tpm2.TPMRCAttributes) {
		t.Errorf("the owner defines an index of the platform: %v", err)
	}
}

// TestLooks: what the machine is follows from its devices.
func TestLooks(t *testing.T) {
	p, err := soft.New(soft.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	driver := func() (snp.Transport, error) { return p.Transport(), nil }
	fails := func(err error) func() (snp.Transport, error) {
		return func() (snp.Transport, error) { return nil, err }
	}
	none := Linux(filepath.Join(t.TempDir(), "none"), filepath.Join(t.TempDir(), "none"))
	entry := tsm.New(tsm.Options{Firmware: p.Transport()})
	plain, azure, google := with(t), paravisors(t, p), with(t, nvGoogleECC)
	for name, c := range map[string]struct {
		devices *Devices
		tpm     platform.TPM
		want    platform.Name
		machine platform.Machine // empty: an error
		source  platform.Source
		keys    bool
		err     error
	}{
		"nothing":                               {none, plain, platform.Auto, "", "", false, platform.ErrAbsent},
		"driver":                                {&Devices{SEVGuest: driver, Entry: none.Entry}, plain, platform.Auto, platform.MachineSNP, platform.SourceSEVGuest, true, nil},
		"entry":                                 {&Devices{SEVGuest: none.SEVGuest, Entry: entry}, plain, platform.Auto, platform.MachineSNP, platform.SourceConfigFS, false, nil},
		"both":                                  {&Devices{SEVGuest: driver, Entry: entry}, plain, platform.Auto, platform.MachineSNP, platform.SourceConfigFS, true, nil},
		"both, device named":                    {&Devices{SEVGuest: driver, Entry: entry}, notUp, platform.SEVGuest, platform.MachineSNP, platform.SourceSEVGuest, true, nil},
		"both on Google":                        {&Devices{SEVGuest: driver, Entry: entry}, google, platform.Auto, platform.MachineGCP, platform.SourceConfigFS, true, nil},
		"Google named":                          {&Devices{SEVGuest: driver, Entry: none.Entry}, notUp, platform.GCP, platform.MachineGCP, platform.SourceSEVGuest, true, nil},
		"Amazon named":                          {&Devices{SEVGuest: driver, Entry: entry}, notUp, platform.AWS, platform.MachineAWS, platform.SourceConfigFS, true, nil},
		"no TPM yet":                            {&Devices{SEVGuest: driver, Entry: entry}, notUp, platform.Auto, "", "", false, platform.ErrNotYet},
		"an SVSM that is not there, named":      {&Devices{SEVGuest: driver, Entry: entry}, plain, platform.SVSM, "", "", false, platform.ErrAbsent},
		"a paravisor that is not there, named":  {&Devices{SEVGuest: driver, Entry: entry}, plain, platform.Azure, "", "", false, platform.ErrAbsent},
		"an entry that is not there, named":     {&Devices{SEVGuest: driver, Entry: none.Entry}, plain, platform.ConfigFS, "", "", false, platform.ErrAbsent},
		"a device that is not there, named":     {&Devices{SEVGuest: none.SEVGuest, Entry: entry}, plain, platform.SEVGuest, "", "", false, platform.ErrAbsent},
		"a paravisor, and the device is named":  {&Devices{SEVGuest: driver, Entry: entry}, azure, platform.SEVGuest, platform.MachineSNP, platform.SourceSEVGuest, true, nil},
		"a device that does not open":           {&Devices{SEVGuest: fails(fs.ErrPermission), Entry: none.Entry}, plain, platform.Auto, "", "", false, fs.ErrPermission},
		"the device of the keys does not open":  {&Devices{SEVGuest: fails(fs.ErrPermission), Entry: entry}, plain, platform.Auto, "", "", false, fs.ErrPermission},
		"an entry that another provider serves": {&Devices{SEVGuest: driver, Entry: tsm.New(tsm.Options{Provider: "tdx_guest"})}, plain, platform.Auto, platform.MachineSNP, platform.SourceSEVGuest, true, nil},
		"an entry that cannot be read": {&Devices{SEVGuest: driver, Entry: tsm.New(tsm.Options{Before: func(_ *tsm.Entry, _ bool, name string) error {
			if name == configfs.Provider {
				return fs.ErrPermission
			}
			return nil
		}})}, plain, platform.Auto, "", "", false, fs.ErrPermission},
	} {
		t.Run(name, func(t *testing.T) {
			p, choice, err := c.devices.Open(c.want, snp.Options{})(t.Context(), c.tpm)
			if !errors.Is(err, c.err) || (err == nil) != (c.err == nil) {
				t.Fatalf("%+v, %v; want %v", choice, err, c.err)
			}
			if err != nil {
				return
			}
			defer p.Close()
			if choice.Machine != c.machine || choice.Source != c.source || choice.Keys != c.keys || (p.Keys() != nil) != c.keys {
				t.Errorf("%+v", choice)
			}
			if strings.Contains(choice.Why, "no derived keys") == c.keys {
				t.Errorf("the reason is %q", choice.Why)
			}
			if _, err := p.Report(t.Context(), platform.Fixed([64]byte{1})); err != nil {
				t.Errorf("a report: %v", err)
			}
		})
	}
}

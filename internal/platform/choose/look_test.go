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
	"github.com/cvm-agentd/agentd/internal/platform/soft/tsm"
	"github.com/cvm-agentd/agentd/internal/tpm"
	"github.com/cvm-agentd/agentd/test/swtpm"
)

// with returns a TPM that has these NV indices.
func with(t *testing.T, indices ...tpm2.TPMHandle) platform.TPM {
	t.Helper()
	s := swtpm.Start(t)
	for _, i := range indices {
		_, err := tpm2.NVDefineSpace{AuthHandle: tpm2.TPMRHOwner, PublicInfo: tpm2.New2B(tpm2.TPMSNVPublic{
			NVIndex: i, NameAlg: tpm2.TPMAlgSHA256, DataSize: 64,
			Attributes: tpm2.TPMANV{OwnerRead: true, OwnerWrite: true, NT: tpm2.TPMNTOrdinary},
		})}.Execute(s)
		if err != nil {
			t.Fatal(err)
		}
	}
	d := s.Device(tpm.Options{})
	return func() (*tpm.Device, bool) { return d, true }
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
	plain, azure, google := with(t), with(t, nvParavisor), with(t, nvGoogleECC)
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

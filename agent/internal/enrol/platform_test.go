// SPDX-License-Identifier: Apache-2.0

package enrol

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/cvm-agentd/agentd/internal/durable/durabletest"
	"github.com/cvm-agentd/agentd/internal/evidencetest"
	"github.com/cvm-agentd/agentd/internal/platform"
	"github.com/cvm-agentd/agentd/internal/platform/soft/svsm"
	"github.com/cvm-agentd/agentd/internal/tpm/tpmkeys"
	"github.com/cvm-agentd/agentd/keys"
	"github.com/cvm-agentd/agentd/pcr"
	"github.com/cvm-agentd/agentd/test/swtpm"
)

// keepAK keeps a restricted RSA key at the handle of Azure's, as its paravisor does.
func keepAK(t *testing.T, s transport.TPM, change func(*tpm2.TPMTPublic)) {
	t.Helper()
	template := tpm2.TPMTPublic{
		Type: tpm2.TPMAlgRSA, NameAlg: tpm2.TPMAlgSHA256,
		ObjectAttributes: tpm2.TPMAObject{FixedTPM: true, FixedParent: true, SensitiveDataOrigin: true, UserWithAuth: true, NoDA: true, Restricted: true, SignEncrypt: true},
		Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgRSA, &tpm2.TPMSRSAParms{
			Scheme:  tpm2.TPMTRSAScheme{Scheme: tpm2.TPMAlgRSASSA, Details: tpm2.NewTPMUAsymScheme(tpm2.TPMAlgRSASSA, &tpm2.TPMSSigSchemeRSASSA{HashAlg: tpm2.TPMAlgSHA256})},
			KeyBits: 2048,
		}),
	}
	if change != nil {
		change(&template)
	}
	made, err := tpm2.CreatePrimary{PrimaryHandle: tpm2.TPMRHOwner, InPublic: tpm2.New2B(template)}.Execute(s)
	if err != nil {
		t.Fatal(err)
	}
	owner := tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: tpm2.PasswordAuth(nil)}
	key := tpm2.NamedHandle{Handle: made.ObjectHandle, Name: made.Name}
	if _, err := (tpm2.EvictControl{Auth: owner, ObjectHandle: &key, PersistentHandle: tpmkeys.AzureAK}).Execute(s); err != nil {
		t.Fatal(err)
	}
	if _, err := (tpm2.FlushContext{FlushHandle: made.ObjectHandle}).Execute(s); err != nil {
		t.Fatal(err)
	}
}

// on is a choice of the platform.
func on(m platform.Machine, err error) func(context.Context) (platform.Choice, error) {
	return func(context.Context) (platform.Choice, error) { return platform.Choice{Machine: m}, err }
}

// TestWhichAK: auto is the key that the platform vouches for. If that cannot be told, no key is
// made: a machine that got one of its own would have evidence that verifiers refuse.
func TestWhichAK(t *testing.T) {
	hang := func(ctx context.Context) (platform.Choice, error) {
		<-ctx.Done()
		return platform.Choice{}, ctx.Err()
	}
	fails := errors.New("the device fails")
	for _, c := range []struct {
		name   string
		want   tpmkeys.AKChoice
		choice func(context.Context) (platform.Choice, error)
		is     tpmkeys.AKChoice
		says   string
	}{
		{"plain", tpmkeys.AKAuto, on(platform.MachineSNP, nil), tpmkeys.AKOwn, ""},
		{"azure", tpmkeys.AKAuto, on(platform.MachineAzure, nil), tpmkeys.AKAzure, ""},
		{"azure, whose reports fail", tpmkeys.AKAuto, on(platform.MachineAzure, fails), tpmkeys.AKAzure, ""},
		{"plain, whose driver fails", tpmkeys.AKAuto, on(platform.MachineSNP, fails), tpmkeys.AKOwn, ""},
		{"nothing there", tpmkeys.AKAuto, on("", platform.ErrAbsent), tpmkeys.AKOwn, ""},
		{"not known", tpmkeys.AKAuto, on("", fails), "", "tpm.ak"},
		{"hangs", tpmkeys.AKAuto, hang, "", "tpm.ak"},
		{"named", tpmkeys.AKAzure, on(platform.MachineSNP, nil), tpmkeys.AKAzure, ""},
		{"own on azure", tpmkeys.AKOwn, on(platform.MachineAzure, nil), "", "remove tpm.ak"},
		{"own of RSA on azure", tpmkeys.AKOwnRSA, on(platform.MachineAzure, nil), "", "remove tpm.ak"},
		{"own of RSA, plain", tpmkeys.AKOwnRSA, on(platform.MachineSNP, nil), tpmkeys.AKOwnRSA, ""},
		{"an SVSM that names one, own of RSA asked for", tpmkeys.AKOwnRSA, naming([]byte{1}), tpmkeys.AKOwnRSA, ""},
		{"own, not known", tpmkeys.AKOwn, on("", fails), tpmkeys.AKOwn, ""},
		{"without a platform", tpmkeys.AKAuto, nil, tpmkeys.AKOwn, ""},
		{"an SVSM that names none", tpmkeys.AKAuto, on(platform.MachineSVSM, nil), tpmkeys.AKOwn, ""},
		{"an SVSM that names one", tpmkeys.AKAuto, naming([]byte{1}), tpmkeys.AKSVSM, ""},
		{"an SVSM that names one, own asked for", tpmkeys.AKOwn, naming([]byte{1}), tpmkeys.AKOwn, ""},
		{"an SVSM, whose reports fail", tpmkeys.AKAuto, on(platform.MachineSVSM, fails), "", "tpm.ak"},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := New(Config{Choice: c.choice})
			e.c.TPM.AK = c.want
			ctx := t.Context()
			if c.name == "hangs" {
				short, cancel := context.WithCancel(ctx)
				cancel()
				ctx = short
			}
			got, err := e.which(ctx)
			if got != c.is || (err == nil) != (c.says == "") || err != nil && !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %q, %v; want %q", got, err, c.is)
			}
		})
	}
}

// azureAgent is an agent on such a machine.
func azureAgent(t *testing.T, s *swtpm.TPM, disk *durabletest.Disk) agent {
	t.Helper()
	a := boot(t, s, disk, false)
	a.c.Choice = on(platform.MachineAzure, nil)
	return a
}

// TestPlatformAK: the key of the paravisor quotes, nothing is stored, an own key that was stored
// before stays as it is, and replace-ak has nothing to do.
func TestPlatformAK(t *testing.T) {
	s := swtpm.Start(t)
	keepAK(t, s, nil)
	var faults durabletest.Faults
	disk := durabletest.NewDisk(&faults)
	disk.Set(akFile, []byte("of another version"))
	a := azureAgent(t, s, disk)
	if err := a.Provision(t.Context()); err != nil {
		t.Fatal(err)
	}
	ak, _ := a.Key()
	if ak.Blob() != nil || string(disk.Get(akFile)) != "of another version" {
		t.Error("a key was stored")
	}
	quote := func() error {
		return a.device.Do(t.Context(), func(x transport.TPM) error {
			attest, signature, err := ak.Quote(x, make([]byte, 32), pcr.Selection{{Algorithm: pcr.SHA256, PCRs: []uint32{0}}})
			if err == nil && (len(attest) == 0 || len(signature) != 262) {
				t.Errorf("attest of %d bytes, signature of %d", len(attest), len(signature))
			}
			return err
		})
	}
	if err := quote(); err != nil {
		t.Fatal(err)
	}
	for _, e := range []agent{a, azureAgent(t, s, disk)} { // with the key in use, and before
		if _, err := e.replace(t.Context()); err == nil || !strings.Contains(err.Error(), "attestation key") {
			t.Errorf("replaced: %v", err)
		}
	}
	a.Close(t.Context()) // the key stays: it is not ours to flush
	if err := quote(); err != nil {
		t.Fatal(err)
	}

	// Another program puts another key there.
	owner := tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: tpm2.PasswordAuth(nil)}
	old := tpm2.NamedHandle{Handle: tpmkeys.AzureAK, Name: tpm2.TPM2BName{Buffer: ak.Name()}}
	if _, err := (tpm2.EvictControl{Auth: owner, ObjectHandle: &old, PersistentHandle: tpmkeys.AzureAK}).Execute(s); err != nil {
		t.Fatal(err)
	}
	if err := quote(); !errors.Is(err, tpmkeys.ErrKeptOther) {
		t.Errorf("without the key: %v", err)
	}
	keepAK(t, s, func(p *tpm2.TPMTPublic) { p.ObjectAttributes.NoDA = false })
	if err := quote(); !errors.Is(err, tpmkeys.ErrKeptOther) {
		t.Errorf("with another key: %v", err)
	}
}

// TestPlatformAKRefused: without a key that can attest, the agent makes none in its place.
func TestPlatformAKRefused(t *testing.T) {
	for name, change := range map[string]func(*tpm2.TPMTPublic){
		"absent":         nil,
		"not restricted": func(p *tpm2.TPMTPublic) { p.ObjectAttributes.Restricted = false },
		"not fixed":      func(p *tpm2.TPMTPublic) { p.ObjectAttributes.FixedTPM, p.ObjectAttributes.FixedParent = false, false },
	} {
		t.Run(name, func(t *testing.T) {
			s := swtpm.Start(t)
			if change != nil {
				keepAK(t, s, change)
			}
			var faults durabletest.Faults
			disk := durabletest.NewDisk(&faults)
			a := azureAgent(t, s, disk)
			if err := a.Provision(t.Context()); !errors.Is(err, ErrNoTPM) || !errors.Is(err, tpmkeys.ErrNotKept) {
				t.Errorf("got %v", err)
			}
			if _, up := a.Key(); up || disk.Get(akFile) != nil {
				t.Error("a key was made")
			}
		})
	}
}

// naming is a choice of a platform whose reports name a key.
func naming(public []byte) func(context.Context) (platform.Choice, error) {
	return func(context.Context) (platform.Choice, error) {
		return platform.Choice{Machine: platform.MachineSVSM, AK: public}, nil
	}
}

// TestNamedAK: above an SVSM whose manifest names an attestation key, that key quotes, wherever
// the TPM keeps it. If the TPM does not have it, or none is named, the agent makes none in its
// place.
func TestNamedAK(t *testing.T) {
	s := swtpm.Start(t)
	public, err := svsm.Attestation(s)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		want  tpmkeys.AKChoice
		named []byte
		fails error
	}{
		"found":               {tpmkeys.AKAuto, public, nil},
		"asked for":           {tpmkeys.AKSVSM, public, nil},
		"another is named":    {tpmkeys.AKAuto, evidencetest.ECCKey('x').Public(), tpmkeys.ErrNotKept},
		"none, and asked for": {tpmkeys.AKSVSM, nil, ErrNoTPM},
	} {
		var faults durabletest.Faults
		disk := durabletest.NewDisk(&faults)
		a := boot(t, s, disk, false)
		a.c.Choice, a.c.TPM.AK = naming(c.named), c.want
		if err := a.Provision(t.Context()); !errors.Is(err, c.fails) || (err == nil) != (c.fails == nil) {
			t.Errorf("%s: %v", name, err)
		}
		ak, up := a.Key()
		if up != (c.fails == nil) || disk.Get(akFile) != nil {
			t.Errorf("%s: a key is up: %v; stored: %d bytes", name, up, len(disk.Get(akFile)))
		}
		if up && !bytes.Equal(ak.Public(), public) {
			t.Errorf("%s: another key is in use", name)
		}
	}
}

// TestNamedEK: above an SVSM the endorsement key to enrol with is the one that its manifest names,
// of whichever template. An enrolment with another one of the same TPM would not tie the
// attestation key to the manifest.
func TestNamedEK(t *testing.T) {
	s := swtpm.Start(t)
	fails := errors.New("the device fails")
	for _, kind := range []keys.EKKind{keys.EKRSA2048, keys.EKECC256} {
		ek, err := tpmkeys.ReadEK(s, kind, tpmkeys.Auths{})
		if err != nil {
			t.Fatal(err)
		}
		for name, c := range map[string]struct {
			choice platform.Choice
			err    error
			want   []byte // nil: an error
		}{
			"named":              {platform.Choice{Machine: platform.MachineSVSM, EK: ek.Public.Bytes()}, nil, ek.Public.Bytes()},
			"of another vTPM":    {platform.Choice{Machine: platform.MachineSVSM, EK: evidencetest.EK('e')}, nil, nil},
			"reports fail":       {platform.Choice{Machine: platform.MachineSVSM}, fails, nil},
			"machine is unknown": {platform.Choice{}, fails, nil},
		} {
			var faults durabletest.Faults
			a := boot(t, s, durabletest.NewDisk(&faults), false)
			a.c.Choice = func(context.Context) (platform.Choice, error) { return c.choice, c.err }
			got, err := a.readEK(t.Context())
			if (err == nil) != (c.want != nil) || err == nil && !bytes.Equal(got.Public.Bytes(), c.want) {
				t.Errorf("%s, %s: %v", kind, name, err)
			}
		}
	}
}

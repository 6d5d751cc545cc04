// SPDX-License-Identifier: Apache-2.0

package enrol

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"github.com/cvm-agentd/agentd/internal/durable/durabletest"
	"github.com/cvm-agentd/agentd/internal/tpm/tpmkeys"
	"github.com/cvm-agentd/agentd/test/swtpm"
)

// boot starts an agent on that TPM and disk.
func boot(t *testing.T, s *swtpm.TPM, disk *durabletest.Disk, ephemeral bool) agent {
	t.Helper()
	r := &replacing{t: t, tpm: s, disk: disk}
	a := r.start()
	a.c.TPM.Ephemeral = ephemeral
	t.Cleanup(func() { a.device.Close() })
	return a
}

// case 111: a vTPM that is made anew at each boot. If the configuration says so, each boot
// has a key of its own and nothing asks; restarts in one boot keep the key. If it does not,
// the stored key is kept, and the error names the setting.
func TestEphemeral(t *testing.T) {
	var faults durabletest.Faults
	disk := durabletest.NewDisk(&faults)
	seen := map[string]bool{}
	for range 3 {
		s := swtpm.Start(t)
		first := boot(t, s, disk, true)
		if err := first.Provision(t.Context()); err != nil {
			t.Fatal(err)
		}
		name := first.used().String()
		if seen[name] {
			t.Errorf("two boots have the key %s", name)
		}
		seen[name] = true
		first.device.Close()
		again := boot(t, s, disk, true)
		if err := again.Provision(t.Context()); err != nil || again.used().String() != name {
			t.Errorf("after a restart: %v", err)
		}
		again.device.Close()
	}
	stored := disk.Get(akFile)

	s := swtpm.Start(t)
	plain := boot(t, s, disk, false)
	err := plain.Provision(t.Context())
	if !errors.Is(err, ErrUnusable) || !strings.Contains(err.Error(), "tpm.ephemeral = true") || !bytes.Equal(disk.Get(akFile), stored) {
		t.Errorf("without the setting: %v", err)
	}
	plain.device.Close()
	for _, name := range []string{"ak-replaced-1.json", "ak-replaced-2.json"} {
		if disk.Get(name) != nil {
			t.Errorf("%s: one file more for each boot", name)
		}
	}

	disk.Set(akFile, append(bytes.Clone(stored), "damage"...))
	if err := boot(t, s, disk, true).Provision(t.Context()); !errors.Is(err, ErrUnusable) {
		t.Errorf("a damaged file: %v, want ErrUnusable", err)
	}
}

// case 111: a storage root key that got an authorization value is tried once, and not again
// at each attempt to start: with most keys each try counts as an attack on the TPM.
func TestParentIsTriedOnce(t *testing.T) {
	s := swtpm.Start(t)
	place(t, s, "")
	var faults durabletest.Faults
	disk := durabletest.NewDisk(&faults)
	first := boot(t, s, disk, false)
	if err := first.Provision(t.Context()); err != nil {
		t.Fatal(err)
	}
	name := first.used()
	first.device.Close()
	place(t, s, "theirs")
	refused := boot(t, s, disk, false)
	if err := refused.Provision(t.Context()); !errors.Is(err, tpmkeys.ErrParent) || !errors.Is(err, ErrUnusable) {
		t.Fatalf("got %v, want ErrParent", err)
	}
	place(t, s, "") // would be accepted now
	if err := refused.Provision(t.Context()); !errors.Is(err, tpmkeys.ErrParent) {
		t.Errorf("the TPM was asked again: %v", err)
	}
	refused.device.Close()
	if again := boot(t, s, disk, false); again.Provision(t.Context()) != nil || !again.used().Equal(name) {
		t.Error("a restart does not ask again")
	}
}

// place puts an RSA storage root key with that authorization value at 0x81000001, in the place
// of what is there.
func place(t *testing.T, s *swtpm.TPM, auth string) {
	t.Helper()
	owner := tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: tpm2.PasswordAuth(nil)}
	evict := func(h tpm2.TPMHandle, name tpm2.TPM2BName) {
		_, err := tpm2.EvictControl{Auth: owner, ObjectHandle: tpm2.NamedHandle{Handle: h, Name: name}, PersistentHandle: 0x81000001}.Execute(s)
		if err != nil {
			t.Fatal(err)
		}
	}
	if old, err := (tpm2.ReadPublic{ObjectHandle: tpm2.TPMHandle(0x81000001)}).Execute(s); err == nil {
		evict(0x81000001, old.Name)
	}
	made, err := tpm2.CreatePrimary{
		PrimaryHandle: owner, InPublic: tpm2.New2B(tpm2.RSASRKTemplate),
		InSensitive: tpm2.TPM2BSensitiveCreate{Sensitive: &tpm2.TPMSSensitiveCreate{UserAuth: tpm2.TPM2BAuth{Buffer: []byte(auth)}}},
	}.Execute(s)
	if err != nil {
		t.Fatal(err)
	}
	evict(made.ObjectHandle, made.Name)
	if _, err := (tpm2.FlushContext{FlushHandle: made.ObjectHandle}).Execute(s); err != nil {
		t.Fatal(err)
	}
}

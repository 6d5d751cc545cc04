// SPDX-License-Identifier: Apache-2.0

package enrol

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/internal/durable/durabletest"
	"github.com/cvm-agentd/agentd/internal/platform"
	"github.com/cvm-agentd/agentd/internal/tpm/tpmkeys"
	"github.com/cvm-agentd/agentd/keys"
	"github.com/cvm-agentd/agentd/test/swtpm"
)

// Each kind of the agent's own key has its file: a configuration that names the other kind and then this
// one again has the same keys. A key that this TPM does not load is replaced by one of its kind.
func TestOwnKinds(t *testing.T) {
	s := swtpm.Start(t)
	var faults durabletest.Faults
	disk := durabletest.NewDisk(&faults)
	r := &replacing{t: t, tpm: s, disk: disk}
	begin := func(choice tpmkeys.AKChoice) agent {
		t.Helper()
		a := r.start()
		a.c.TPM.AK = choice
		a.c.Choice = func(context.Context) (platform.Choice, error) {
			return platform.Choice{Machine: platform.MachineSNP}, nil
		}
		t.Cleanup(func() { a.device.Close() })
		return a
	}
	names := map[tpmkeys.AKChoice]string{}
	for _, choice := range []tpmkeys.AKChoice{tpmkeys.AKOwn, tpmkeys.AKOwnRSA, tpmkeys.AKAuto, tpmkeys.AKOwnRSA, tpmkeys.AKOwn} {
		a := begin(choice)
		if err := a.Provision(t.Context()); err != nil {
			t.Fatalf("%s: %v", choice, err)
		}
		name, ak := a.used().String(), tpmkeys.AKOwn
		if choice == tpmkeys.AKOwnRSA {
			ak = choice
		}
		if names[ak] == "" {
			names[ak] = name
		}
		if names[ak] != name {
			t.Errorf("%s: another key than before", choice)
		}
		key, _ := a.Key()
		public, err := keys.ParsePublic(key.Public())
		if err != nil {
			t.Fatal(err)
		}
		if rsa := public.Area().Type == tpm2.TPMAlgRSA; rsa != (choice == tpmkeys.AKOwnRSA) {
			t.Errorf("%s: a key of RSA: %t", choice, rsa)
		}
		a.device.Close()
	}
	if names[tpmkeys.AKOwn] == names[tpmkeys.AKOwnRSA] || disk.Get(akFile) == nil || disk.Get(akRSAFile) == nil {
		t.Errorf("keys %v", names)
	}
	ecc, old := disk.Get(akFile), disk.Get(akRSAFile)
	clearTPM(t, s)
	a := begin(tpmkeys.AKOwnRSA)
	if err := a.Provision(t.Context()); !errors.Is(err, ErrUnusable) || !strings.Contains(err.Error(), akRSAFile) {
		t.Errorf("after a clear: %v", err)
	}
	replaced, err := a.replace(t.Context())
	if err != nil || bytes.Equal(replaced.New, replaced.Old) {
		t.Fatalf("%+v, %v", replaced, err)
	}
	if !bytes.Equal(disk.Get(akFile), ecc) || !bytes.Equal(disk.Get(replaced.Backup), old) || bytes.Equal(disk.Get(akRSAFile), old) {
		t.Error("another file than that of RSA was changed, or the old one is lost")
	}
	if _, err := a.replace(t.Context()); !errors.Is(err, api.CodeNothingToDo) {
		t.Errorf("the second time: %v", err)
	}
}

// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/cvm-agentd/agentd/agent/internal/enrol"
	"github.com/cvm-agentd/agentd/agent/internal/server"
	"github.com/cvm-agentd/agentd/agent/internal/vault"
	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/config"
	"github.com/cvm-agentd/agentd/internal/durable"
	"github.com/cvm-agentd/agentd/internal/platform"
	"github.com/cvm-agentd/agentd/internal/platform/soft"
	"github.com/cvm-agentd/agentd/internal/tpm"
	"github.com/cvm-agentd/agentd/sealing"
	"github.com/cvm-agentd/agentd/test/swtpm"
)

// clearTPM clears the TPM, as a new owner does.
func clearTPM(t *testing.T, s transport.TPM) {
	t.Helper()
	_, err := tpm2.Clear{AuthHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHLockout, Auth: tpm2.PasswordAuth(nil)}}.Execute(s)
	if err != nil {
		t.Fatal(err)
	}
}

// whole is a machine with one application, on which agents are started.
type whole struct {
	t       *testing.T
	options Options
	owner   server.Owner
	program string // of the application
	broken  bool   // a device is, so that an agent may end with an error
}

func newWhole(t *testing.T, s *swtpm.TPM) *whole {
	t.Helper()
	dir := t.TempDir()
	for _, sub := range []string{"apps.d", "log", "state", "files"} {
		if err := os.Mkdir(filepath.Join(dir, sub), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	file := filepath.Join(dir, "files", "program")
	text := fmt.Sprintf("unit = \"billing.service\"\nuser = \"root\"\nfiles = [%q]\n", file)
	if err := os.WriteFile(filepath.Join(dir, "apps.d", "billing.toml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c := config.Default()
	c.Sockets = config.Sockets{Client: filepath.Join(dir, "c"), Admin: filepath.Join(dir, "a")}
	c.Measurement.ApplicationFolders = []string{filepath.Join(dir, "apps.d")}
	c.Measurement.LogFolder, c.Measurement.FirmwareLog = filepath.Join(dir, "log"), ""
	c.Report.Spacing, c.Report.CertificateFolder = 0, filepath.Join(dir, "certs")
	c.Keys.LoseOnHardwareChange = true
	c.State.Folder = filepath.Join(dir, "state")
	hardware := filepath.Join(dir, "platform")
	address := s.Listen().Address()
	w := &whole{t: t, program: file, owner: server.Owner{App: "billing", Unit: "billing.service"}, options: Options{Config: c, Version: "test", Machine: Machine{
		BootID:          "one boot",
		LogEndsWithBoot: func(*durable.Dir) (bool, error) { return true, nil },
		OpenTPM:         func(ctx context.Context) (*tpm.Device, error) { return tpm.Open(ctx, address, tpm.Options{}) },
		OpenPlatform: func(context.Context, platform.TPM) (platform.Platform, platform.Choice, error) {
			p, err := soft.New(soft.Options{Directory: hardware})
			return p, platform.Choice{}, err
		},
	}}}
	w.change("first")
	return w
}

// start starts an agent, and returns when the first attempt to bring it up is over.
func (w *whole) start() (d *daemon, stop func()) {
	w.t.Helper()
	d, err := newDaemon(w.options)
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(w.t.Context())
	done := make(chan error, 1)
	go func() { done <- d.run(ctx, nil) }()
	select {
	case <-d.supervisor.Tried():
	case err := <-done:
		w.t.Fatal(err)
	case <-time.After(time.Minute):
		w.t.Fatal("the agent does not come up")
	}
	return d, func() {
		w.t.Helper()
		cancel()
		if err := <-done; err != nil && !w.broken {
			w.t.Error(err)
		}
	}
}

func (w *whole) evidence(d *daemon) error {
	_, err := d.evidence().Attest(w.t.Context(), api.EvidenceRequest{Nonce: make([]byte, 32), Freshness: evidence.Fresh}, evidence.Caller{PID: 1, Method: evidence.MethodPidfd})
	return err
}

func (w *whole) seal(d *daemon, name string) error {
	return vault.Secrets{Vault: d.vault}.Seal(w.t.Context(), w.owner, api.SealRequest{Name: name, Data: []byte("secret")})
}

func (w *whole) unseal(d *daemon, name string) error {
	_, err := vault.Secrets{Vault: d.vault}.Unseal(w.t.Context(), w.owner, api.UnsealRequest{Name: name})
	return err
}

// TestClearedUnderAgent: a TPM that is cleared while the agent runs. No caller gets evidence
// or keys from then on, measuring goes on, and each refusal and the status say what to do;
// a start after that does too, and after the key was replaced everything is there again but
// what only the cleared TPM could open.
func TestClearedUnderAgent(t *testing.T) {
	s := swtpm.Start(t)
	w := newWhole(t, s)
	d, stop := w.start()
	if err := errors.Join(w.evidence(d), w.seal(d, "token"), w.unseal(d, "token")); err != nil {
		t.Fatal(err)
	}
	old := d.status.Status().AKName
	clearTPM(t, s)

	// Says reports whether err tells what happened and what comes next.
	says := func(what string, err error, want ...string) {
		t.Helper()
		for _, x := range want {
			if err == nil || !strings.Contains(err.Error(), x) {
				t.Errorf("%s: got %v, want it to say %q", what, err, x)
			}
		}
	}
	for what, err := range map[string]error{"evidence": w.evidence(d), "replace-ak": w.replace(d)} {
		if says(what, err, "was cleared", "agentctl key rewrap", "restart the agent", "agentctl key replace-ak"); !errors.Is(err, enrol.ErrUnusable) {
			t.Errorf("%s: %v has not the code %s", what, err, api.CodeAKUnusable)
		}
	}
	if st := d.status.Status(); st.TPM.State != api.StateDegraded || st.TPM.Code != api.CodeAKUnusable || !strings.Contains(st.TPM.Reason, "restart the agent") || !st.Ledger.Synchronised {
		t.Errorf("status of TPM %+v, ledger %+v", st.TPM, st.Ledger)
	}
	err := w.seal(d, "new")
	if says("seal", err, "counter-lost", "the TPM was cleared"); sealing.CodeOf(err) != api.CodeCounterLost {
		t.Errorf("seal: the code of %v is not %s", err, api.CodeCounterLost)
	}
	says("unseal", w.unseal(d, "token"), "counter-lost", "the TPM was cleared")
	if st := d.status.Status(); st.Keys.State != api.StateDegraded || st.Keys.Code != api.CodeCounterLost {
		t.Errorf("status of keys %+v", st.Keys)
	}
	w.change("second")
	if a, err := d.service.Measure(t.Context(), "billing"); err != nil || a.State != api.AppMeasured {
		t.Errorf("measured: %+v, %v", a, err) // the PCR is as it was
	}
	records := d.status.Status().Ledger.Records
	stop()

	d, stop = w.start()
	for what, err := range map[string]error{"evidence": w.evidence(d), "seal": w.seal(d, "new"), "unseal": w.unseal(d, "token"), "measure": w.measure(d)} {
		if says(what, err, "was cleared", "agentctl key replace-ak"); !errors.Is(err, enrol.ErrUnusable) {
			t.Errorf("restarted, %s: %v has not the code %s", what, err, api.CodeAKUnusable)
		}
	}
	if st := d.status.Status(); st.TPM.Code != api.CodeAKUnusable || st.Keys.Code != api.CodeAKUnusable || st.Ledger.Synchronised {
		t.Errorf("restarted: %+v", st)
	}
	if err := w.replace(d); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(w.evidence(d), w.measure(d)); err != nil {
		t.Errorf("replaced: %v", err)
	}
	// The counts of a cleared TPM began anew, and the log explains the PCR all the same.
	st := d.status.Status()
	if st.TPM.State != api.StateOK || !st.Ledger.Synchronised || st.Ledger.Records <= records || bytes.Equal(st.AKName, old) {
		t.Errorf("replaced: TPM %+v, ledger %+v of %d records before", st.TPM, st.Ledger, records)
	}
	for what, err := range map[string]error{"seal": w.seal(d, "new"), "unseal": w.unseal(d, "token")} {
		if says(what, err, "before the TPM was cleared", "the secret is gone"); sealing.CodeOf(err) != api.CodeTPMCleared {
			t.Errorf("replaced, %s: %v", what, err)
		}
	}
	stop()
	d, stop = w.start()
	if err := w.evidence(d); err != nil {
		t.Errorf("replaced and restarted: %v", err)
	}
	stop()
}

// TestSavedFromClearedTPM: what the refusal of a running agent says saves what is sealed,
// without any recovery identity.
func TestSavedFromClearedTPM(t *testing.T) {
	s := swtpm.Start(t)
	w := newWhole(t, s)
	d, stop := w.start()
	if err := w.seal(d, "token"); err != nil {
		t.Fatal(err)
	}
	clearTPM(t, s)
	if _, err := (vault.Admin{Vault: d.vault}).Rewrap(t.Context()); err == nil || !strings.Contains(err.Error(), "counter-lost") {
		t.Errorf("rewrap: %v", err)
	}
	if _, err := (vault.Admin{Vault: d.vault}).AcceptRollback(t.Context()); err != nil {
		t.Error(err)
	}
	if r, err := (vault.Admin{Vault: d.vault}).Rewrap(t.Context()); err != nil || r.Written == 0 || len(r.Kept) != 0 {
		t.Errorf("rewrap again: %+v, %v", r, err)
	}
	stop()
	d, stop = w.start()
	if err := w.replace(d); err != nil {
		t.Error(err)
	}
	if err := errors.Join(w.unseal(d, "token"), w.seal(d, "new")); err != nil {
		t.Errorf("after a restart: %v", err)
	}
	stop()
}

func (w *whole) measure(d *daemon) error {
	_, err := d.service.Measure(w.t.Context(), "billing")
	return err
}

// replace replaces the attestation key, and waits until what waited for it came up.
func (w *whole) replace(d *daemon) error {
	_, err := d.enroller.ReplaceAK(w.t.Context())
	return err
}

// change replaces the application's program.
func (w *whole) change(content string) {
	w.t.Helper()
	if err := os.WriteFile(w.program, []byte(content), 0o600); err != nil {
		w.t.Fatal(err)
	}
}

// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/agent/internal/vault"
	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/platform"
	"github.com/cvm-agentd/agentd/internal/platform/choose"
	"github.com/cvm-agentd/agentd/internal/platform/snp"
	"github.com/cvm-agentd/agentd/internal/platform/soft"
	"github.com/cvm-agentd/agentd/internal/platform/soft/tsm"
	"github.com/cvm-agentd/agentd/test/swtpm"
)

// another is a platform that is not SEV-SNP: its reports are of another kind, and it derives
// no keys.
type another struct{}

func (another) Kind() evidence.ReportKind { return "another" }
func (another) Keys() platform.Keys       { return nil }
func (another) Staple([][]byte) error     { return nil }
func (another) Close() error              { return nil }

func (another) Report(ctx context.Context, data platform.Data) (platform.Report, error) {
	over, err := data(ctx)
	return platform.Report{Bytes: append([]byte("another report "), over[:]...)}, err
}

// TestAnotherPlatform: the agent knows a platform by its interface only. Evidence contains the
// report as it is, and sealed blobs need the TPM alone to be accepted.
func TestAnotherPlatform(t *testing.T) {
	w := newWhole(t, swtpm.Start(t))
	w.options.Machine.OpenPlatform = platform.Always(another{}, platform.Choice{})
	d, stop := w.start()
	b, err := d.evidence().Attest(t.Context(), api.EvidenceRequest{Nonce: make([]byte, 32), Freshness: evidence.Fresh}, evidence.Caller{PID: 1, Method: evidence.MethodPidfd})
	if err != nil || !bytes.Contains(bytes.Join(b, nil), []byte(`"kind":"another"`)) {
		t.Errorf("evidence %.200s, %v", b, err)
	}
	if err := w.seal(d, "token"); !errors.Is(err, vault.ErrNoDerivation) {
		t.Errorf("seal: %v", err)
	}
	if s := d.status.Status(); s.Platform.State != api.StateOK || s.Platform.Kind != "another" || s.Keys.State != api.StateAbsent {
		t.Errorf("platform %+v, keys %+v", s.Platform, s.Keys)
	}
	stop()
	w.options.Config.Keys.WithoutDerivedKeys = true
	d, stop = w.start()
	if err := errors.Join(w.seal(d, "token"), w.unseal(d, "token")); err != nil {
		t.Error(err)
	}
	stop()
}

// TestConfigFS: an agent that chooses by itself makes evidence by an entry of configfs-tsm. Keys
// are those of the driver's device, and without that sealed blobs need the TPM alone to be
// accepted. The choice waits for the TPM.
func TestConfigFS(t *testing.T) {
	p, err := soft.New(soft.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	absent := func() (snp.Transport, error) { return nil, fmt.Errorf("no device: %w", platform.ErrAbsent) }
	for name, c := range map[string]struct {
		driver func() (snp.Transport, error)
		entry  tsm.Options
		source platform.Source
		keys   bool
	}{
		"entry alone":         {absent, tsm.Options{}, platform.SourceConfigFS, false},
		"entry and device":    {func() (snp.Transport, error) { return p.Transport(), nil }, tsm.Options{}, platform.SourceConfigFS, true},
		"entry of another":    {func() (snp.Transport, error) { return p.Transport(), nil }, tsm.Options{Provider: "tdx_guest"}, platform.SourceSEVGuest, true},
		"nothing that serves": {absent, tsm.Options{Provider: "tdx_guest"}, "", false},
	} {
		t.Run(name, func(t *testing.T) {
			c.entry.Firmware = p.Transport()
			devices := &choose.Devices{SEVGuest: c.driver, Entry: tsm.New(c.entry)}
			w := newWhole(t, swtpm.Start(t))
			w.options.Machine.OpenPlatform = devices.Open(platform.Auto, snp.Options{})
			d, stop := w.start()
			defer stop()
			_, err := d.evidence().Attest(t.Context(), api.EvidenceRequest{Nonce: make([]byte, 32), Freshness: evidence.Fresh}, evidence.Caller{PID: 1, Method: evidence.MethodPidfd})
			s := d.status.Status().Platform
			if c.source == "" {
				if !errors.Is(err, platform.ErrAbsent) || s.State != api.StateAbsent || !strings.Contains(s.Reason, "tdx_guest") || s.Machine != "" {
					t.Errorf("%v, %+v", err, s)
				}
				return
			}
			if err != nil || s.State != api.StateOK || s.Source != string(c.source) || s.Machine != string(platform.MachineSNP) || s.Why == "" {
				t.Errorf("%v, %+v", err, s)
			}
			if err := w.seal(d, "token"); c.keys != (err == nil) || !c.keys && !errors.Is(err, vault.ErrNoDerivation) {
				t.Errorf("seal: %v", err)
			}
			if strings.Contains(s.Why, "no derived keys") == c.keys {
				t.Errorf("the reason is %q", s.Why)
			}
		})
	}
}

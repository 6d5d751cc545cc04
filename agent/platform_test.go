// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"bytes"
	"context"
	"errors"
	"testing"

	"github.com/cvm-agentd/agentd/agent/internal/vault"
	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/platform"
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

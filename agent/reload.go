// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/apps"
	"github.com/cvm-agentd/agentd/pcr"
)

// errConfig: the configuration file has a mistake in it.
var errConfig = errors.New("the configuration cannot be read")

// staple reads the stapled certificates and hands them to the platform, which is
// opened for that, so that status knows from the start whether there is one.
func (d *Daemon) staple() {
	ders, errs := loadCertificates(d.o.Config.Report.CertificateFolder)
	for _, err := range errs {
		d.log.Warn("certificates", "error", err)
	}
	if err := d.platform.staple(ders); err != nil {
		d.log.Warn("certificates", "error", err)
	}
	if _, err := d.platform.device(); err != nil {
		d.log.Warn("no reports", "error", err)
	}
}

// announce records that the agent started or read its declarations again.
func (d *Daemon) announce(to apps.Recorder, event pcr.EventType) func(context.Context, []pcr.Declaration) error {
	return func(ctx context.Context, declarations []pcr.Declaration) error {
		digest, err := d.self.wait(ctx)
		if err != nil {
			return err
		}
		_, err = to.Append(ctx, pcr.Event{Type: event, Agent: &pcr.AgentEvent{
			Version:       d.o.Version,
			Digest:        digest,
			Configuration: d.config,
			Declarations:  declarations,
			AgentKey:      evidence.Bytes(d.key.Public().(ed25519.PublicKey)),
		}})
		return err
	}
}

// Reload reads certificates and declarations again. The configuration is checked too;
// a mistake in it is an error that changes nothing, and a change is for the next start.
func (d *Daemon) Reload(ctx context.Context) (api.Reloaded, error) {
	d.reload.Lock()
	defer d.reload.Unlock()
	p, err := d.ready(ctx)
	if p.apps == nil {
		return api.Reloaded{}, missing(err)
	}
	if d.o.Reread != nil {
		_, text, err := d.o.Reread()
		if err != nil {
			return api.Reloaded{}, fmt.Errorf("%w: %w", errConfig, err)
		}
		if sha256.Sum256(text) != d.config {
			d.log.Warn("the configuration has changed: it takes effect when the daemon is started again")
		}
	}
	d.staple()
	change, err := p.apps.Reload(ctx, d.announce(p.ledger, pcr.EventReload))
	if err != nil {
		return api.Reloaded{}, err
	}
	out := api.Reloaded{Apps: d.counts()}
	for i, err := range change.Errors {
		source := change.Refused[i]
		var declaration *apps.DeclarationError
		if errors.As(err, &declaration) {
			source = declaration.File
		}
		out.Errors = append(out.Errors, api.ReloadProblem{Source: source, Reason: err.Error()})
	}
	d.log.Info("declarations were read again", "declared", out.Apps.Declared, "measured", out.Apps.Measured, "refused", len(out.Errors))
	return out, nil
}

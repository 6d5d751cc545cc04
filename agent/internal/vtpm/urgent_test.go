// SPDX-License-Identifier: Apache-2.0

package vtpm_test

import (
	"context"
	"errors"
	"testing"

	"github.com/google/go-tpm/tpm2/transport"

	"github.com/cvm-agentd/agentd/agent/internal/vtpm"
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/turn"
	"github.com/cvm-agentd/agentd/pcr"
)

var errNoted = errors.New("noted, not sent")

// noting is a device that notes for whom it is asked.
type noting struct{ who turn.Who }

func (n *noting) Do(ctx context.Context, _ func(transport.TPM) error) error {
	n.who = turn.From(ctx)
	return errNoted
}

// Each command is made while the log waits for it. So it is in the class of records at least:
// otherwise the record of a unit that starts would wait in turn for clients.
func TestCommandsAreAsUrgentAsRecords(t *testing.T) {
	for from, want := range map[turn.Class]turn.Class{
		turn.Inquiry: turn.Ledger, turn.Evidence: turn.Ledger, turn.Keys: turn.Ledger,
		turn.Admin: turn.Ledger, turn.Ledger: turn.Ledger, turn.Start: turn.Start,
	} {
		ctx := turn.With(t.Context(), turn.Who{Class: from, Party: "x"})
		d := &noting{}
		x := &vtpm.TPM{Device: d}
		for name, ask := range map[string]func() error{
			"quote":  func() error { _, err := x.Quote(ctx, evidence.Digest{}); return err },
			"banks":  func() error { _, err := x.Banks(ctx); return err },
			"read":   func() error { _, err := x.Read(ctx, 13); return err },
			"extend": func() error { return x.Extend(ctx, 13, []pcr.Digest{}) },
			"boot":   func() error { _, err := x.Boot(ctx); return err },
		} {
			d.who = turn.Who{}
			if err := ask(); !errors.Is(err, errNoted) {
				t.Errorf("%s: %v, want the device to be asked", name, err)
			}
			if d.who.Class != want {
				t.Errorf("%s for work of class %v is of class %v, want %v", name, from, d.who.Class, want)
			}
		}
	}
}

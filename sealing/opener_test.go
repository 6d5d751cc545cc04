// SPDX-License-Identifier: Apache-2.0

package sealing_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/sealing"
)

// TestOpeners: each kind of blob on each kind of slots names to whom the agent gives it, who opens it
// past the agent, each recovery identity, and other images; and the text draws all of them.
func TestOpeners(t *testing.T) {
	const guest, tpm, root = "a guest on this chip", "the party that runs the TPM", "root of this guest"
	for what, of := range map[string]struct {
		c     sealing.Contract
		gives []string
	}{
		"root":       {sealing.Contract{Kind: sealing.KindAppRoot, App: sealing.App{Name: "billing", Unit: "billing.service", User: "daemon"}}, []string{"processes of unit billing.service with user daemon"}},
		"secret":     {sealing.Contract{Kind: sealing.KindSecret, App: sealing.App{Name: "billing", Unit: "billing.service", User: "daemon"}, Name: "token"}, []string{"processes of unit billing.service with user daemon"}},
		"credential": {sealing.Contract{Kind: sealing.KindSecret, App: sealing.App{Name: "billing", Unit: "billing.service", User: "daemon"}, Name: sealing.Provisioned + "token"}, []string{"systemd for unit billing.service, as credential token"}},
		"volume": {sealing.Contract{Kind: sealing.KindSecret, App: sealing.App{Name: sealing.VolumeApp + "data", Unit: "systemd-cryptsetup@data.service", User: "root"}, Name: "record"},
			[]string{"systemd-cryptsetup in unit systemd-cryptsetup@data.service", "root of this guest, with agentctl disk", "a recovery key of the volume"}},
	} {
		for weakest, past := range map[sealing.SlotKind][]string{sealing.SlotSNPTPM: {guest, root}, sealing.SlotSNP: {guest, root}, sealing.SlotTPM: {tpm, root}, sealing.SlotRecovery: nil} {
			c := of.c
			c.Weakest, c.Recipients = weakest, []string{"age1one", "age1two"}
			c.Digests = []evidence.Digest{{0xaa}, {0xbb}}
			c.Passage = []sealing.Opener{{Who: "one guest of release 7", When: "soon"}}
			want := slices.Concat(of.gives, past, []string{"the identity of age1one", "the identity of age1two", "one guest of release 7"})
			got := c.Openers()
			if len(got) != len(want) {
				t.Fatalf("%s, %s: %q", what, weakest, got)
			}
			text := c.Text()
			for i, o := range got {
				if !strings.HasPrefix(o.Who, want[i]) || o.When == "" || !strings.Contains(text, "─ "+o.Who+"\n") || !strings.Contains(text, "└─ "+o.When+"\n") {
					t.Errorf("%s, %s: %+v, want %s\n%s", what, weakest, o, want[i], text)
				}
			}
			// A digest that is required is a condition, except for a volume, which has no program.
			if strings.Contains(got[0].When, "aa000000") == (what == "volume") {
				t.Errorf("%s, %s: %s", what, weakest, got[0].When)
			}
		}
	}
}

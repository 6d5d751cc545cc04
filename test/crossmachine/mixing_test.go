// SPDX-License-Identifier: Apache-2.0

package crossmachine

import (
	"testing"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/verify"
)

// parts is what one machine gave, parsed anew for each test, which takes it apart.
type parts struct {
	stale, fresh, anchored, neighbour, mine *evidence.Evidence
}

func (g *guest) parts(t *testing.T) *parts {
	t.Helper()
	p := &parts{stale: parse(t, g.stale), fresh: parse(t, g.fresh), anchored: parse(t, g.anchored)}
	if g.mine != nil {
		p.mine, p.neighbour = parse(t, g.mine), parse(t, g.neighbour)
	}
	return p
}

// TestGenuine: what is mixed is accepted unmixed, and in one piece another nonce is all
// that is wrong with what was made for it.
func TestGenuine(t *testing.T) {
	need(t)
	for name, g := range map[string]*guest{"A": shared.a, "B": shared.b, "C": shared.c} {
		t.Run(name, func(t *testing.T) {
			for _, doc := range [][]byte{g.fresh, g.anchored} {
				if a := both(t, policy("", ""), doc); a.Binding != verify.BindingGuestAsserted {
					t.Errorf("binding %s", a.Binding)
				}
			}
			both(t, policy("", ""), g.stale, "statement.nonce")
		})
	}
	both(t, policy("", ""), shared.a.mine)
	both(t, policy("", ""), shared.a.neighbour, "statement.nonce")
}

// mixed is one wrong combination: mix returns the evidence, made of parts of A, B and C.
type mixed struct {
	name  string
	mix   func(a, b, c *parts) *evidence.Evidence
	fails []verify.CheckID
}

func TestMixed(t *testing.T) {
	need(t)
	for _, m := range append(machinesMixed, timesMixed...) {
		t.Run(m.name, func(t *testing.T) {
			e := m.mix(shared.a.parts(t), shared.b.parts(t), shared.c.parts(t))
			both(t, policy("", ""), document(t, e), m.fails...)
		})
	}
}

// machinesMixed puts parts of B or C into evidence of A.
var machinesMixed = []mixed{
	{"case 51 quote of B", func(a, b, _ *parts) *evidence.Evidence {
		e := a.fresh
		e.Batch.Quote, e.Batch.PCRs = b.fresh.Batch.Quote, b.fresh.Batch.PCRs
		return e
	}, []verify.CheckID{"batch.agent-signature", "quote.signature", "quote.qualifying-data", "binding.report-data", "log.replay"}},
	{"case 51 quote and AK of B under the report of A", func(a, b, _ *parts) *evidence.Evidence {
		e := a.fresh
		e.Batch.Quote, e.Batch.PCRs, e.AK = b.fresh.Batch.Quote, b.fresh.Batch.PCRs, b.fresh.AK
		return e
	}, []verify.CheckID{"batch.agent-signature", "quote.qualifying-data", "binding.report-data", "log.replay"}},
	{"case 51 AK of B under the report of A", func(a, b, _ *parts) *evidence.Evidence {
		e := a.fresh
		e.AK = b.fresh.AK
		return e
	}, []verify.CheckID{"quote.signature", "binding.report-data"}},
	{"case 51 all of B under the report of A", func(a, b, _ *parts) *evidence.Evidence {
		e := b.fresh
		e.Report, e.Certificates = a.fresh.Report, a.fresh.Certificates
		return e
	}, []verify.CheckID{"binding.report-data"}},
	{"case 51 signature over the quote of B", func(a, b, _ *parts) *evidence.Evidence {
		e := a.fresh
		e.Batch.Quote.Signature = b.fresh.Batch.Quote.Signature
		return e
	}, []verify.CheckID{"quote.signature"}},
	{"case 47 PCR values of B", func(a, b, _ *parts) *evidence.Evidence {
		e := a.fresh
		e.Batch.PCRs = b.fresh.Batch.PCRs
		return e
	}, []verify.CheckID{"quote.pcr-digest", "log.replay"}},
	{"case 58 certificates of B, another chip under the same root", func(a, b, _ *parts) *evidence.Evidence {
		e := a.fresh
		e.Certificates = b.fresh.Certificates
		return e
	}, []verify.CheckID{"report.signature", "report.chip"}},
	{"case 58 certificates of C, another product under the same authority", func(a, _, c *parts) *evidence.Evidence {
		e := a.fresh
		e.Certificates = c.fresh.Certificates
		return e
	}, []verify.CheckID{"report.product", "report.signature", "report.chip", "report.tcb"}},
	{"case 58 report of C under the certificates of A", func(a, _, c *parts) *evidence.Evidence {
		e := c.fresh
		e.Certificates = a.fresh.Certificates
		return e
	}, []verify.CheckID{"report.product", "report.signature", "report.chip", "report.tcb"}},
	{"agent key of B", func(a, b, _ *parts) *evidence.Evidence {
		e := a.fresh
		e.AgentKey = b.fresh.AgentKey
		return e
	}, []verify.CheckID{"batch.agent-signature", "binding.report-data", "log.agent-key"}},
	{"agent signature of B", func(a, b, _ *parts) *evidence.Evidence {
		e := a.fresh
		e.AgentSignature = b.fresh.AgentSignature
		return e
	}, []verify.CheckID{"batch.agent-signature"}},
	{"agent key and signature of B", func(a, b, _ *parts) *evidence.Evidence {
		e := a.fresh
		e.AgentKey, e.AgentSignature = b.fresh.AgentKey, b.fresh.AgentSignature
		return e
	}, []verify.CheckID{"batch.agent-signature", "binding.report-data", "log.agent-key"}},
	{"case 28 log of B", func(a, b, _ *parts) *evidence.Evidence {
		e := a.fresh
		e.Log = b.fresh.Log
		return e
	}, []verify.CheckID{"log.replay", "log.head", "log.time", "log.agent-key"}},
	{"log and log head of B", func(a, b, _ *parts) *evidence.Evidence {
		e := a.fresh
		e.Log, e.Batch.LogHead = b.fresh.Log, b.fresh.Batch.LogHead
		return e
	}, []verify.CheckID{"batch.agent-signature", "binding.report-data", "log.replay", "log.time", "log.agent-key"}},
	{"case 52 statement of B", func(a, b, _ *parts) *evidence.Evidence {
		e := a.fresh
		e.Statement = b.fresh.Statement
		return e
	}, []verify.CheckID{"batch.inclusion"}},
	{"statement, proof and tree of B", func(a, b, _ *parts) *evidence.Evidence {
		e := a.fresh
		e.Statement, e.Inclusion, e.Batch.Tree = b.fresh.Statement, b.fresh.Inclusion, b.fresh.Batch.Tree
		return e
	}, []verify.CheckID{"batch.agent-signature", "quote.qualifying-data", "binding.report-data"}},
	{"case 51 anchor of B", func(a, b, _ *parts) *evidence.Evidence {
		e := a.anchored
		e.Anchor = b.anchored.Anchor
		return e
	}, []verify.CheckID{"batch.agent-signature", "quote.qualifying-data", "anchor.signature", "anchor.signer", "anchor.reset-count", "anchor.restart-count", "anchor.guest-clock", "binding.report-data", "anchor.log-prefix"}},
	{"case 51 anchor and report of B", func(a, b, _ *parts) *evidence.Evidence {
		e := a.anchored
		e.Anchor, e.Report, e.Certificates = b.anchored.Anchor, b.anchored.Report, b.anchored.Certificates
		return e
	}, []verify.CheckID{"batch.agent-signature", "quote.qualifying-data", "anchor.signature", "anchor.signer", "anchor.reset-count", "anchor.restart-count", "anchor.guest-clock", "binding.report-data", "anchor.log-prefix"}},
	{"case 51 report of B under the anchor of A", func(a, b, _ *parts) *evidence.Evidence {
		e := a.anchored
		e.Report, e.Certificates = b.anchored.Report, b.anchored.Certificates
		return e
	}, []verify.CheckID{"batch.agent-signature", "quote.qualifying-data", "binding.report-data"}},
	{"case 91 batch signed by the agent of B over the anchor of A", func(a, b, _ *parts) *evidence.Evidence {
		e := a.anchored
		e.AgentSignature = b.anchored.AgentSignature
		return e
	}, []verify.CheckID{"batch.agent-signature"}},
	{"case 91 batch of B over the anchor and the agent key of A", func(a, b, _ *parts) *evidence.Evidence {
		e := a.anchored
		e.Statement, e.Inclusion, e.Batch, e.AgentSignature = b.anchored.Statement, b.anchored.Inclusion, b.anchored.Batch, b.anchored.AgentSignature
		return e
	}, []verify.CheckID{"batch.agent-signature", "quote.signature", "quote.qualifying-data", "anchor.signer", "anchor.reset-count", "anchor.restart-count", "log.replay", "log.head"}},
	{"case 92 log of B after the anchor of A", func(a, b, _ *parts) *evidence.Evidence {
		e := a.anchored
		e.Log = b.anchored.Log
		return e
	}, []verify.CheckID{"log.replay", "log.head", "log.time", "log.agent-key", "anchor.log-prefix"}},
}

// timesMixed puts what one machine gave at one time into what it gave at another.
var timesMixed = []mixed{
	{"case 52 old report under a new quote", func(a, _, _ *parts) *evidence.Evidence {
		e := a.fresh
		e.Report = a.stale.Report
		return e
	}, []verify.CheckID{"binding.report-data"}},
	{"case 52 new statement in an old batch", func(a, _, _ *parts) *evidence.Evidence {
		e := a.stale
		e.Statement, e.Inclusion = a.fresh.Statement, a.fresh.Inclusion
		return e
	}, []verify.CheckID{"batch.inclusion"}},
	{"case 52 new statement and tree over an old quote", func(a, _, _ *parts) *evidence.Evidence {
		e := a.stale
		e.Statement, e.Inclusion, e.Batch.Tree = a.fresh.Statement, a.fresh.Inclusion, a.fresh.Batch.Tree
		return e
	}, []verify.CheckID{"batch.agent-signature", "quote.qualifying-data", "binding.report-data"}},
	{"case 52 old agent signature", func(a, _, _ *parts) *evidence.Evidence {
		e := a.fresh
		e.AgentSignature = a.stale.AgentSignature
		return e
	}, []verify.CheckID{"batch.agent-signature"}},
	{"case 52 another caller's proof", func(a, _, _ *parts) *evidence.Evidence {
		e := a.mine
		e.Inclusion = a.neighbour.Inclusion
		return e
	}, []verify.CheckID{"batch.inclusion"}},
	{"case 42 another caller's statement", func(a, _, _ *parts) *evidence.Evidence {
		e := a.mine
		e.Statement = a.neighbour.Statement
		return e
	}, []verify.CheckID{"statement.nonce", "batch.inclusion"}},
	{"case 52 anchored passed off as fresh", func(a, _, _ *parts) *evidence.Evidence {
		e := a.anchored
		e.Anchor = nil
		return e
	}, []verify.CheckID{"batch.agent-signature", "quote.qualifying-data", "binding.report-data"}},
	{"case 52 statement that asked for a fresh report in an anchored batch", func(a, _, _ *parts) *evidence.Evidence {
		e := a.anchored
		e.Statement = a.fresh.Statement
		return e
	}, []verify.CheckID{"statement.freshness", "batch.inclusion"}},
	{"case 52 an older anchor", func(a, _, _ *parts) *evidence.Evidence {
		e := a.anchored
		e.Anchor, e.Report = &a.stale.Batch, a.stale.Report
		return e
	}, []verify.CheckID{"batch.agent-signature", "quote.qualifying-data"}},
	{"case 92 the batch's log cut back to the anchor", func(a, _, _ *parts) *evidence.Evidence {
		e := a.anchored
		e.Log = a.fresh.Log
		return e
	}, []verify.CheckID{"log.replay", "log.head"}},
	{"case 92 log and head of the anchor", func(a, _, _ *parts) *evidence.Evidence {
		e := a.anchored
		e.Log, e.Batch.LogHead = a.fresh.Log, a.fresh.Batch.LogHead
		return e
	}, []verify.CheckID{"batch.agent-signature", "log.replay"}},
}

// SPDX-License-Identifier: Apache-2.0

package rule

import (
	"fmt"
	"slices"
	"strings"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/verify/internal/check"
	"github.com/cvm-agentd/agentd/verify/internal/replay"
)

// AgentRules are rules about the agents that the log names.
type AgentRules struct {
	quiet
	Agent Agent `toml:"agent,omitempty"`
}

// Agent is [agent].
type Agent struct {
	Versions []string `toml:"versions,omitempty" value:"name" default:"any" doc:"versions that the log may name, as each agent states its own: an old agent is refused"`
	Digests  []string `toml:"digests,omitempty" value:"hex 32" default:"any" doc:"SHA-256 of their executables, as each agent states its own"`

	Configurations []string `toml:"configurations,omitempty" value:"hex 32" default:"any" doc:"SHA-256 of their configuration files, as each agent states it and |agentctl show| prints it. Of an agent without such a file it is that of nothing, |e3b0c442…|"`

	versions, digests, configurations map[string]bool // in a compiled policy
}

var agentChecks = []check.Definition{{ID: "policy.agent", Class: check.Policy, Ground: check.OnHistory, Checks: "every agent that the log names has a version, digest and configuration that the policy lists", Stops: "an old agent, one that was told to do something else, and another one that says who it is: an agent states its own digest"}}

func (r *AgentRules) asks() bool {
	return len(r.Agent.Versions)+len(r.Agent.Digests)+len(r.Agent.Configurations) > 0
}

func (r *AgentRules) conflicts(p *Policy, f *faults) { p.needs(f, "agent", r.asks()) }

func (r *AgentRules) compile() error {
	r.Agent.versions, r.Agent.digests, r.Agent.configurations = set(r.Agent.Versions), set(r.Agent.Digests), set(r.Agent.Configurations)
	return nil
}

func (r *AgentRules) explain(_ *Policy, w *Words) {
	w.on(check.OnHistory, "the agent ([agent])")
	w.demandIf(len(r.Agent.Versions) > 0, "Every agent that the log names has one of the versions %s.", strings.Join(r.Agent.Versions, ", "))
	w.demandIf(len(r.Agent.Digests) > 0, "Every agent that the log names has %s, as it states itself.", oneOf(len(r.Agent.Digests), "digest"))
	w.demandIf(len(r.Agent.Configurations) > 0, "Every agent that the log names has %s, as it states itself.", oneOf(len(r.Agent.Configurations), "configuration"))
	w.openIf(!r.asks(), "Which agent wrote the log ([agent]).")
}

func (*AgentRules) draft(g *Golden, d *Draft) {
	log, state := g.Log, g.LogState
	if state != LogRead || len(log.Agents) == 0 {
		return
	}
	list := func(of func(replay.Agent) evidence.Digest) string {
		var all []string
		for _, a := range log.Agents {
			if s := quoted(of(a).String()); !slices.Contains(all, s) {
				all = append(all, s)
			}
		}
		return strings.Join(all, ", ")
	}
	d.tables.offer("Agents that the log names. Each states its own digest.", "[agent]\ndigests = [%s]", list(func(a replay.Agent) evidence.Digest { return a.Digest }))
	d.tables.offer("What they were told to do. Remove the # if the configuration is the same on every good machine.", "# configurations = [%s]\n", list(func(a replay.Agent) evidence.Digest { return a.Configuration }))
}

func (r *AgentRules) judge(_ *Policy, s *Subject, f *check.Findings) {
	log, state := s.Log, s.LogState
	if noLog(f, state, "policy.agent") {
		return
	}
	if f.SkipIf(!r.asks(), "policy.agent", "the policy names no agent") {
		return
	}
	var other []string
	for _, a := range log.Agents {
		if len(r.Agent.Versions) > 0 && !r.Agent.versions[a.Version] || len(r.Agent.Digests) > 0 && !r.Agent.digests[a.Digest.String()] ||
			len(r.Agent.Configurations) > 0 && !r.Agent.configurations[a.Configuration.String()] {
			other = append(other, fmt.Sprintf("record %d: version %q, digest %s, configuration %s", a.Record, a.Version, a.Digest, a.Configuration))
		}
	}
	if len(log.Agents) == 0 {
		other = append(other, "no agent start is recorded")
	}
	f.Decide("policy.agent", len(other) == 0, "only agents that the policy lists", firstOf(other), "the log names an agent that the policy does not list")
}

// SPDX-License-Identifier: Apache-2.0

package rule

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/pcr"
	"github.com/cvm-agentd/agentd/verify/internal/check"
	"github.com/cvm-agentd/agentd/verify/internal/replay"
)

// EventRules are rules about what applications had recorded in the log.
type EventRules struct {
	quiet
	Events []Event `toml:"event,omitempty"`
}

// Event is one [[event]]: what applications say about a domain.
type Event struct {
	Domain   string   `toml:"domain" value:"later" default:"required" doc:"what the events are about, as the application calls it: 1 to 128 bytes"`
	App      string   `toml:"app,omitempty" value:"name" default:"any" doc:"application whose events these are, as the agent names it. Only |demand = \"absent\"| does without it: then the events of all applications count"`
	Demand   Demand   `toml:"demand" value:"one present absent last" default:"required" doc:"|present|: the log has such an event of the application. |absent|: it has none. |last|: the last event of the application in this domain is such a one, and there is one"`
	Contents []string `toml:"contents,omitempty" value:"later" default:"any" doc:"contents that such an event has, as text of 1 to 1024 bytes. With neither this nor |event.digests|, every event of the domain is such a one"`
	Digests  []string `toml:"digests,omitempty" value:"hex0 32" default:"any" doc:"the same by digest, 32 bytes each: SHA-256 of a content, or the digest that was recorded in place of one"`
	Others   Choice   `toml:"others,omitempty" value:"one allow refuse" default:"\"allow\"" doc:"|refuse| refuses events of other applications in this domain"`

	values map[string]bool // of Contents and Digests, in a compiled policy
}

// Demand is the value of event.demand.
type Demand string

// Demands on events.
const (
	EventPresent Demand = "present"
	EventAbsent  Demand = "absent"
	EventLast    Demand = "last"
)

var eventChecks = []check.Definition{
	{ID: "policy.event-present", Class: check.Policy, Ground: check.OnHistory, Checks: "the log has the events that the policy demands of applications", Stops: "an application that did not say what it has to say before it is trusted, such as that it loaded its model"},
	{ID: "policy.event-absent", Class: check.Policy, Ground: check.OnHistory, Checks: "the log has no event of an application that the policy forbids", Stops: "an application that said since boot that it is in a state which is not trusted, such as a mode for debugging"},
	{ID: "policy.event-last", Class: check.Policy, Ground: check.OnHistory, Checks: "the last event of an application about a domain in the log is one that the policy lists", Stops: "an application that said once what is demanded, and something else since"},
	{ID: "policy.event-app", Class: check.Policy, Ground: check.OnHistory, Checks: "the log has no event about a domain of another application than the policy names, or of another unit than it names for that application", Stops: "another application that imitates the events of the one that is trusted"},
}

func (r *EventRules) values(f *faults) {
	for i := range r.Events {
		e, key := &r.Events[i], fmt.Sprintf("event[%d]", i)
		if err := pcr.CheckDomain(e.Domain); err != nil && f.given(key+".domain", e.Domain != "") {
			f.fail(key+".domain", "%v", err)
		}
		f.failIf(e.Contents != nil && len(e.Contents) == 0, key+".contents", "the list is empty: leave the key out if anything is acceptable")
		f.twice(key+".contents[%d]", len(e.Contents), func(j int) string { return e.Contents[j] })
		for j, c := range e.Contents {
			f.failIf(c == "" || len(c) > pcr.MaxEmitted, fmt.Sprintf("%s.contents[%d]", key, j), "%d bytes, want 1 to %d", len(c), pcr.MaxEmitted)
		}
	}
}

func (r *EventRules) conflicts(p *Policy, f *faults) {
	p.needs(f, "event", len(r.Events) > 0)
	for i := range r.Events {
		e, key := &r.Events[i], fmt.Sprintf("event[%d]", i)
		f.failIf(e.App == "" && e.Demand != EventAbsent, key+".app", "missing: any application may record any event, so the rule must name the one that is trusted")
		f.failIf(e.App == "" && e.Others == Refuse, key+".others", "the rule names no app, so there are no others")
		f.failIf(e.Demand == EventLast && !e.lists(), key, "\"last\" lists neither contents nor digests: \"present\" accepts any")
		f.failIf(e.App != "" && e.Demand == EventAbsent && e.Others == Refuse && !e.lists(), key+".others", "no event of the domain is accepted already, of no application: leave app and others out")
	}
}

func (r *EventRules) compile() error {
	for i := range r.Events {
		e := &r.Events[i]
		e.values = set(e.Digests)
		for _, c := range e.Contents {
			sum := sha256.Sum256([]byte(c))
			e.values[hex.EncodeToString(sum[:])] = true
		}
	}
	return nil
}

// lists reports whether the rule says which events it is about.
func (e *Event) lists() bool { return len(e.Contents)+len(e.Digests) > 0 }

// such reports whether an event is one that the rule is about, apart from the application.
func (e *Event) such(x *replay.Emitted) bool {
	return x.Domain == e.Domain && (!e.lists() || e.values[x.Value.String()])
}

// of reports whether an event is of the application of the rule.
func (e *Event) of(x *replay.Emitted) bool { return e.App == "" || x.App == e.App }

// what names what the rule is about, for people.
func (e *Event) what() string {
	out := fmt.Sprintf("an event in the domain %q", e.Domain)
	if e.lists() {
		out += fmt.Sprintf(" with %s", oneOf(len(e.Contents)+len(e.Digests), "content"))
	}
	return out
}

func (r *EventRules) explain(p *Policy, w *Words) {
	w.on(check.OnHistory, "events of applications ([[event]])")
	if len(r.Events) == 0 {
		w.open("What applications had recorded of themselves: no [[event]] asks.")
		return
	}
	listed := p.rules()
	for i := range r.Events {
		e := &r.Events[i]
		by := "any application"
		if e.App != "" {
			by = fmt.Sprintf("the application %q", e.App)
		}
		w.demandIf(e.Demand == EventPresent, "The log has %s, of %s.", e.what(), by)
		w.demandIf(e.Demand == EventAbsent, "The log does not have %s, of %s.", e.what(), by)
		w.demandIf(e.Demand == EventLast, "The last event of %s in the domain %q has %s.", by, e.Domain, oneOf(len(e.Contents)+len(e.Digests), "content"))
		w.demandIf(e.Others == Refuse, "The log has no event of another application in the domain %q.", e.Domain)
		w.openIf(e.App != "" && listed[e.App] == nil && p.container(e.App) == nil, "Which program said what the policy demands of the application %q: no [[app]] and no [[container]] lists it.", e.App)
	}
	w.open("Whether the events of applications are true: each application says what it likes.")
}

// mostDrafted is how many rules a draft offers.
const mostDrafted = 20

func (*EventRules) draft(g *Golden, d *Draft) {
	if g.LogState != LogRead {
		return
	}
	type about struct{ app, domain string }
	seen := make(map[about]bool)
	for _, x := range g.Log.Emitted {
		if k := (about{x.App, x.Domain}); !seen[k] && len(seen) < mostDrafted {
			seen[k] = true
			last := g.Log.LastEmitted(x.App, x.Domain)
			d.tables.offer("What the application recorded last in this domain. Remove the # if it must be so on every good machine.",
				"# [[event]]\n# app = %s\n# domain = %s\n# demand = \"last\"\n# digests = [%q]\n# others = \"refuse\"\n", quoted(x.App), quoted(x.Domain), last.Value)
		}
	}
}

func (r *EventRules) judge(p *Policy, s *Subject, f *check.Findings) {
	log, state := s.Log, s.LogState
	var ids []check.ID
	for _, d := range eventChecks {
		ids = append(ids, d.ID)
	}
	if noLog(f, state, ids...) {
		return
	}
	if len(r.Events) == 0 {
		skip(f, "the policy asks for no event of an application", ids...)
		return
	}
	found, asked := make(map[check.ID][]string), make(map[check.ID]bool)
	add := func(id check.ID, why string) {
		asked[id] = true
		if why != "" {
			found[id] = append(found[id], why)
		}
	}
	rules := p.rules()
	for i := range r.Events {
		e := &r.Events[i]
		switch e.Demand {
		case EventPresent:
			add("policy.event-present", e.missing(log))
		case EventAbsent:
			add("policy.event-absent", e.there(log))
		case EventLast:
			add("policy.event-last", e.notLast(log))
		}
		if e.Others == Refuse {
			add("policy.event-app", e.byOther(log, rules[e.App], p.container(e.App)))
		}
	}
	for id, want := range map[check.ID]string{
		"policy.event-present": "the events that the policy demands", "policy.event-absent": "no event that the policy forbids",
		"policy.event-last": "a last event that the policy lists", "policy.event-app": "only events of the application that the policy names",
	} {
		if !f.SkipIf(!asked[id], id, "no [[event]] of the policy asks for this") {
			f.Decide(id, len(found[id]) == 0, want, firstOf(found[id]), "%s", strings.Join(found[id][:min(1, len(found[id]))], ""))
		}
	}
}

// missing says that the log lacks the event, empty if it does not.
func (e *Event) missing(log *replay.State) string {
	if slices.ContainsFunc(log.Emitted, func(x replay.Emitted) bool { return e.of(&x) && e.such(&x) }) {
		return ""
	}
	return fmt.Sprintf("the log does not have %s, of %q", e.what(), e.App)
}

// there names an event that may not be in the log, empty if none is.
func (e *Event) there(log *replay.State) string {
	i := slices.IndexFunc(log.Emitted, func(x replay.Emitted) bool { return e.of(&x) && e.such(&x) })
	if i < 0 {
		return ""
	}
	x := &log.Emitted[i]
	return fmt.Sprintf("record %d is an event of %q in the domain %q that the policy forbids, %s", x.First, x.App, x.Domain, shortly(x))
}

// notLast says that the last event is another one, empty if it is not.
func (e *Event) notLast(log *replay.State) string {
	switch last := log.LastEmitted(e.App, e.Domain); {
	case last == nil:
		return fmt.Sprintf("the log has no event of %q in the domain %q", e.App, e.Domain)
	case !e.such(last):
		return fmt.Sprintf("record %d, the last event of %q in the domain %q, is another than the policy lists, %s", last.Last, e.App, e.Domain, shortly(last))
	}
	return ""
}

// byOther names an event in the domain of another application, or of a process in another unit
// than the policy names for the application; empty if there is none.
func (e *Event) byOther(log *replay.State, app *App, c *Container) string {
	for i := range log.Emitted {
		x := &log.Emitted[i]
		if x.Domain != e.Domain {
			continue
		}
		if x.App != e.App {
			return fmt.Sprintf("record %d is an event of %q in the domain %q, which is that of %q alone", x.First, x.App, e.Domain, e.App)
		}
		if app != nil && x.Engine != "" {
			return fmt.Sprintf("record %d is an event of %q from a container of %s, and the policy lists the application by its files", x.First, x.App, x.Engine)
		}
		if app != nil && app.Unit != "" && !evidence.InUnit(app.Unit, x.Unit) {
			return fmt.Sprintf("record %d is an event of %q from unit %q, want %q", x.First, x.App, x.Unit, app.Unit)
		}
		if c != nil && (x.Engine == "" || c.Engine != "" && x.Engine != c.Engine) {
			return fmt.Sprintf("record %d is an event of %q from unit %q or engine %q, and the policy lists the application as a container", x.First, x.App, x.Unit, x.Engine)
		}
	}
	return ""
}

// shortly names the value of an event, for people.
func shortly(x *replay.Emitted) string { return fmt.Sprintf("value %s", x.Value) }

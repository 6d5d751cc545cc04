// SPDX-License-Identifier: Apache-2.0

package test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/spire/internal/node"
	"github.com/cvm-agentd/agentd/test/simulated"
)

const (
	fleet   = "spiffe://" + domain + "/fleet"
	billing = "spiffe://" + domain + "/billing"
	shop    = "spiffe://" + domain + "/shop"
)

// enter makes entries for measured programs on machines that the policy accepts, whichever they are.
func (s *server) enter(digests map[string]string) {
	s.b.t.Helper()
	s.ask("entry", "create", "-node", "-spiffeID", fleet, "-selector", "agentd:root:test", "-selector", "agentd:app:billing", "-selector", "agentd:app-digest:billing:"+digests["billing"])
	s.ask("entry", "create", "-parentID", fleet, "-spiffeID", billing, "-selector", "agentd:measured:yes", "-selector", "agentd:app:billing", "-selector", "agentd:digest:"+digests["billing"])
	s.ask("entry", "create", "-parentID", fleet, "-spiffeID", shop, "-selector", "agentd:app:shop", "-selector", "agentd:digest:"+digests["shop"])
}

// programsGet checks which programs of a machine have identities: two that are measured, and not the third.
func (a *agent) programsGet() {
	a.b.t.Helper()
	for of, want := range map[string]string{"billing.service": billing, "shop.service": shop} {
		a.b.eventually("an SVID for "+of, func() error {
			id, _, err := a.svid(of)
			if err == nil && id != want {
				a.b.t.Fatalf("%s is %s, want %s", of, id, want)
			}
			return err
		})
	}
	a.b.eventually("no SVID for a third program", func() error { return a.refused("other.service") })
}

// refuses starts an agent that a server must refuse, and waits until the log of the server says why.
func (s *server) refuses(what string, m *simulated.Machine, why, program string, args ...string) {
	s.b.t.Helper()
	before, known := strings.Count(s.Output(), why), len(s.agents())
	a := s.b.agent(m, false, program, args...)
	s.b.eventually(what+" is refused", func() error {
		if strings.Count(s.Output(), why) > before {
			return nil
		}
		return fmt.Errorf("the server did not say %q\nagent: %s", why, a.Output())
	})
	a.Kill()
	if now := len(s.agents()); now != known {
		s.b.t.Errorf("%s: the server has %d agents, before %d", what, now, known)
	}
	if _, err := os.Stat(a.socket); !errors.Is(err, os.ErrNotExist) {
		s.b.t.Errorf("%s: it serves programs: %v", what, err)
	}
}

// TestOne: a machine joins a server by evidence, and two of its programs get identities. What must not join
// does not. The server is restarted, and all goes on. A program that is exchanged loses its identity.
func TestOne(t *testing.T) {
	b := newBed(t)
	m := b.machine("m", newer)
	s := b.server()
	s.enter(b.digests(m))
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	answer := filepath.Join(b.dir, "answer")
	a := b.agent(m, true, program, record, answer)
	a.programsGet()
	agents := s.agents()
	if len(agents) != 1 {
		t.Fatalf("%d agents", len(agents))
	}
	for path, x := range agents {
		if !strings.HasPrefix(path, "/spire/agent/agentd/000b") || !x.Reattests {
			t.Errorf("agent %s: %+v", path, x)
		}
		t.Logf("agent %s: %q", path, x.Selectors)
	}
	_, first, err := a.svid("billing.service")
	if err != nil {
		t.Fatal(err)
	}

	s.refuses("another launch measurement", b.machine("launch", newer, "--launch", "another"), "policy.launch", "")
	s.refuses("an old TCB", b.machine("old"), "policy.tcb-reported", "")
	s.refuses("an answer to an earlier challenge, of the same machine", m, "statement.nonce", program, replay, answer)
	s.refuses("an answer of another machine to an earlier challenge", b.machine("other", newer), "statement.nonce", program, replay, answer)

	for _, end := range []struct {
		how string
		do  func()
	}{
		{"stopped", func() {
			if err := s.Stop(t); err != nil {
				t.Errorf("%v\n%s", err, s.Output())
			}
		}},
		{"killed", func() { s.Kill() }}, // the process that runs by then
	} {
		end.do()
		s.run()
		back := time.Now()
		b.eventually("the agent joins again after the server was "+end.how, func() error {
			for _, x := range s.agents() {
				if time.Unix(x.Expires, 0).After(back.Add(ttl)) {
					return nil
				}
			}
			return fmt.Errorf("the agent did not: %s", a.Output())
		})
	}
	b.eventually("the program has a new SVID", func() error {
		_, now, err := a.svid("billing.service")
		if err == nil && now.SerialNumber.Cmp(first.SerialNumber) == 0 {
			return errors.New("the old one")
		}
		return err
	})
	a.programsGet()

	large, size := b.machine("large", newer), node.MaxDocument
	s.refuses("evidence that is too large", large, fmt.Sprintf("evidence of %d bytes", size+1), program, pad, strconv.Itoa(size+1))
	b.agent(large, true, program, pad, strconv.Itoa(size)).Kill()

	if err := os.Rename(b.write("shop.new", "#!/bin/sh\n# changed\n"), filepath.Join(b.dir, "shop")); err != nil {
		t.Fatal(err)
	}
	b.eventually("no SVID for a program that was exchanged", func() error { return a.refused("shop.service") })
	if id, _, err := a.svid("billing.service"); err != nil || id != billing {
		t.Errorf("the other program: %s, %v", id, err)
	}
	a.anotherDigest()
}

// anotherDigest checks that SPIRE's agent starts no plugin with another digest than its configuration says.
func (a *agent) anotherDigest() {
	t := a.b.t
	conf, err := os.ReadFile(a.conf)
	if err != nil {
		t.Fatal(err)
	}
	text := strings.ReplaceAll(string(conf), a.b.digest(a.b.plugin()), strings.Repeat("0", 64))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := a.b.inside(exec.CommandContext(ctx, filepath.Join(a.b.spire, "spire-agent"), "run", "-config", a.b.write("digest.conf", text)))
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "checksums did not match") {
		t.Errorf("a plugin of another digest: %v: %s", err, out)
	}
}

// TestClonedTPM: of two machines with one vTPM, the second cannot join with the log of the same boot. If it
// was reset once more it can, and neither goes on after the first has come again, until an operator decides.
func TestClonedTPM(t *testing.T) {
	b := newBed(t)
	m := b.cloned("a", "b", "c")
	s := b.server()
	s.enter(b.digests(m))
	one := b.agent(m, true, "")
	one.programsGet()
	s.refuses("a copy of the vTPM", b.machine("b", newer), "log.continuation", "")

	reset := b.machine("c", newer)
	if err := reset.Stop(); err != nil {
		t.Fatal(err)
	}
	reset = b.machine("c", newer)
	two := b.agent(reset, true, "")
	b.eventually("the server sees two machines", func() error {
		if strings.Contains(s.Output(), "two machines") {
			return nil
		}
		return fmt.Errorf("it does not: %s", s.Output())
	})
	const told = "until an operator has looked"
	for name, a := range map[string]*agent{"the first": one, "the copy": two} {
		// SPIRE's agent ends if it is refused until its SVID has ended.
		if err := a.Wait(t); err == nil || !strings.Contains(a.Output(), told) {
			t.Errorf("%s ended by itself: %v: %s", name, err, a.Output())
		}
		if id, _, err := a.svid("billing.service"); err == nil {
			t.Errorf("%s: its program is %s", name, id)
		}
	}
	const marked = "find out which was cloned"
	s.refuses("the first, started again", m, marked, "")
	s.refuses("the copy, started again", reset, marked, "")

	marks, err := filepath.Glob(filepath.Join(b.dir, s.name, "state", "*.disputed"))
	if err != nil || len(marks) != 1 {
		t.Fatalf("marks %q, %v", marks, err)
	}
	if err := os.Remove(marks[0]); err != nil {
		t.Fatal(err)
	}
	b.agent(reset, true, "").programsGet() // it was accepted last
}

// cloned returns a machine, of which there are copies with these names, vTPM and all.
func (b *bed) cloned(name string, copies ...string) *simulated.Machine {
	b.t.Helper()
	m := b.machine(name, newer)
	if err := m.Stop(); err != nil {
		b.t.Fatal(err)
	}
	for _, c := range copies {
		if out, err := exec.Command("cp", "-a", m.Dir, filepath.Join(b.dir, c)).CombinedOutput(); err != nil {
			b.t.Fatalf("%v: %s", err, out)
		}
		if err := os.Remove(filepath.Join(b.dir, c, "platform", "launch")); err != nil {
			b.t.Fatal(err)
		}
	}
	return b.machine(name, newer)
}

// TestCloneAtAnotherServer: servers that share a state know what each other accepted. So a copy of a vTPM
// cannot join at a server that has never seen the machine, and the machine itself goes on there.
func TestCloneAtAnotherServer(t *testing.T) {
	b := newBed(t)
	b.shared = true
	m := b.cloned("a", "b")
	first, second := b.server(), b.server() // whose keys an agent learns from the bundle
	first.enter(b.digests(m))
	second.Kill()
	one := b.agent(m, true, "")
	one.programsGet()
	one.Kill() // so that it is not the first at the other server
	second.run()
	first.Kill()
	second.refuses("a copy of the vTPM", b.machine("b", newer), "log.continuation", "")
	b.agent(m, true, "").programsGet()
}

// TestFleet: two servers on one PostgreSQL, which has the state of their plugins too, and ten machines. One
// server after the other is killed, and comes back: agents join again, and programs get new SVIDs, all the
// time.
func TestFleet(t *testing.T) {
	b := newBed(t)
	b.shared = true
	machines := []*simulated.Machine{b.machine("m0", newer)}
	for i := 1; i < 10; i++ {
		machines = append(machines, b.machine(fmt.Sprintf("m%d", i), newer))
	}
	b.server()
	b.server()
	b.servers[0].enter(b.digests(machines[0]))
	var agents []*agent
	for _, m := range machines {
		agents = append(agents, b.agent(m, true, ""))
	}
	for i, s := range b.servers {
		if n := len(s.agents()); n != len(machines) {
			t.Errorf("server %d knows %d agents, want %d", i, n, len(machines))
		}
	}
	for _, a := range agents {
		a.programsGet()
	}
	for i, s := range b.servers {
		other := b.servers[1-i]
		s.Kill()
		b.goesOn(other, agents, fmt.Sprintf("server %d was killed", i))
		s.run()
	}
	b.goesOn(b.servers[0], agents, "both are back")
	for _, a := range agents {
		a.programsGet()
	}
	for _, s := range b.servers {
		t.Logf("%s accepted evidence %d times in its last run", s.name, strings.Count(s.Output(), "evidence accepted"))
	}
}

// goesOn checks that all agents join again, and their programs get SVIDs, after this moment, as a server has
// it.
func (b *bed) goesOn(s *server, agents []*agent, when string) {
	b.t.Helper()
	from := time.Now()
	b.eventually("all agents join again after "+when, func() error {
		all := s.agents()
		for path, x := range all {
			if !time.Unix(x.Expires, 0).After(from.Add(ttl)) {
				return fmt.Errorf("%s did not", path)
			}
		}
		if len(all) != len(agents) {
			return fmt.Errorf("%d agents, want %d", len(all), len(agents))
		}
		return nil
	})
	for _, a := range agents {
		b.eventually("a new SVID after "+when, func() error {
			id, x, err := a.svid("billing.service")
			switch {
			case err != nil:
				return err
			case id != billing:
				b.t.Fatalf("it is %s", id)
			case !x.NotAfter.After(from.Add(ttl)):
				return fmt.Errorf("it is of before: %s", a.Output())
			}
			return nil
		})
	}
	b.t.Logf("after %s: %d agents and their programs went on within %v", when, len(agents), time.Since(from).Round(time.Second))
}

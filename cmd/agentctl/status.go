// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/text"
	"github.com/cvm-agentd/agentd/internal/version"
)

const statusUsage = `Usage: agentctl status [--wait TIME] [--json]

Show what the agent can do now, and what is missing. The agent first tries whether it
can make evidence, for up to 5 seconds. The exit code is 0 if it can, so that
"agentctl attest" would succeed, and 6 if it cannot.

  --wait TIME    wait at most this long until it can, such as 30s or 2m

Examples:
  agentctl status
  agentctl status --wait 1m
  agentctl status --json | jq .ledger
`

func statusCommand(t *terminal, s *sockets) *cobra.Command {
	var wait time.Duration
	c := command("status", statusUsage, arguments(), func(c *cobra.Command, _ []string) error {
		st, err := s.status(c.Context(), wait)
		err = present(t, st, err, func() { t.printStatus(st, s.readings(c.Context())) })
		if err == nil && !st.Evidence.Ready {
			return &exitError{code: exitUnavailable}
		}
		return err
	})
	c.Flags().DurationVar(&wait, "wait", 0, "")
	return c
}

// status asks until the agent can make evidence, for at most wait.
func (s *sockets) status(ctx context.Context, wait time.Duration) (*api.Status, error) {
	agent := s.clientSocket()
	defer agent.Close()
	for deadline := time.Now().Add(wait); ; {
		st, err := soon(ctx, agent.StatusNow)
		if err == nil && st.Evidence.Ready && st.Keys.Reason != api.ReasonStarting || !time.Now().Before(deadline) {
			return st, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// readings returns the applications whose files are being read, if this user may see them.
func (s *sockets) readings(ctx context.Context) []api.App {
	all, err := soon(ctx, s.adminSocket().Apps)
	if err != nil {
		return nil // the admin socket is for root
	}
	return slices.DeleteFunc(all, func(a api.App) bool { return a.Reading == nil })
}

func (t *terminal) printStatus(st *api.Status, readings []api.App) {
	n := &node{text: cleanLine(fmt.Sprintf("agentd %s", st.Version))}
	with := func(n *node, reason string) {
		if reason != "" {
			n.add("%s", reason)
		}
	}
	if st.Evidence.Ready {
		n.add("evidence: ready")
	} else {
		with(n.add("evidence: NOT ready: %s", cmp.Or(st.Evidence.Code.Info().Meaning, string(st.Evidence.Code))), st.Evidence.Reason)
	}
	tpm := n.add("TPM: %s", st.TPM.State)
	with(tpm, st.TPM.Reason)
	if len(st.AKName) > 0 {
		tpm.add("attestation key %s", hex.EncodeToString(st.AKName))
	}
	platform := n.add("platform: %s", strings.TrimSpace(fmt.Sprintf("%s %s", st.Platform.State, st.Platform.Kind)))
	with(platform, st.Platform.Reason)
	with(platform, machineLine(&st.Platform))
	if st.Platform.LastError != "" && st.Platform.LastError != st.Platform.Reason {
		platform.add("last report that failed: %s", st.Platform.LastError)
	}
	state := "the PCR matches"
	switch {
	case st.TPM.State != api.StateOK, st.Ledger.Reason == api.ReasonStarting:
		state = "not compared with the PCR yet: no evidence"
	case !st.Ledger.Synchronised:
		state = "the PCR does NOT match: evidence is refused"
	}
	if st.Ledger.Full {
		state += "; FULL"
	}
	if percent(st.Ledger.Bytes, st.Ledger.Limit) >= nearlyFull && !st.Ledger.Full {
		state += "; NEARLY FULL: plan a reboot, which begins a new log"
	}
	ledger := n.add("measurement log of PCR %s: %s, %d bytes%s, %s", pcrsText(&st.Ledger), text.Count(st.Ledger.Records, "record"), st.Ledger.Bytes, prefixed(" (", fullness(&st.Ledger), " full)"), state)
	with(ledger, st.Ledger.Reason)
	with(ledger, st.Ledger.Pending)
	applications := n.add("applications: %d declared, %d measured, %d not", st.Apps.Declared, st.Apps.Measured, st.Apps.Unmeasured)
	for _, a := range readings {
		applications.add("%s is being read: %s", a.Name, readingText(a.Reading))
	}
	with(n, eventLine(&st.Events))
	with(n, gateLine(st.Gate))
	if w := st.Watch; w.State == api.StateDegraded && w.Reason != api.ReasonStarting {
		with(n.add("watching of files: DEGRADED: changes are noticed within 30 s"), w.Reason)
	}
	keys := n.add("%s", keyLine(&st.Keys))
	with(keys, st.Keys.Reason)
	if st.Keys.StoreKey != "" {
		keys.add("%s", st.Keys.StoreKey)
	}
	if st.Anchor != nil {
		n.add("anchor: a report %v old", time.Duration(st.Anchor.AgeMilliseconds)*time.Millisecond)
	}
	n.add("batches: %d fresh, %d anchored, %d failed; %d statements", st.Batches.Fresh, st.Batches.Anchored, st.Batches.Failed, st.Batches.Statements)
	n.draw(t)
}

// eventLine says how much of the log the events of applications have, empty if there are none.
func eventLine(e *api.EventStatus) string {
	if e.Recorded+e.Refused == 0 {
		return ""
	}
	out := fmt.Sprintf("events of applications: %d, %d of %d bytes of the log", e.Recorded, e.Bytes, e.Limit)
	if e.Refused > 0 {
		out += fmt.Sprintf("; %d refused", e.Refused)
	}
	if e.Exhausted > 0 {
		out += fmt.Sprintf("; %s may record NO MORE until the next boot ([events] has the quotas)", text.Count(e.Exhausted, "application"))
	}
	return out
}

// gateLine says how the gate does, empty if nothing asks for it.
func gateLine(g *api.GateStatus) string {
	if g == nil {
		return ""
	}
	if !g.Present {
		return fmt.Sprintf("gate: NOT there, and asked for by %s", count(g.Asked, "application"))
	}
	return fmt.Sprintf("gate: asked for by %s, guards %d", count(g.Asked, "application"), g.Guarded)
}

// machineLine says what the machine was found to be, and why; empty if that is not known.
func machineLine(p *api.PlatformStatus) string {
	if p.Machine == "" {
		return ""
	}
	return fmt.Sprintf("machine %s, reports by %s: %s", p.Machine, p.Source, p.Why)
}

const selfUsage = `Usage: agentctl self [--json]

Show how the agent identifies this process: user, unit and application, and why.
The statement of its evidence would say the same.

Examples:
  agentctl self
  systemd-run --wait --pipe agentctl self
`

func selfCommand(t *terminal, s *sockets) *cobra.Command {
	return command("self", selfUsage, arguments(), func(c *cobra.Command, _ []string) error {
		self, err := soon(c.Context(), s.clientSocket().Self)
		return present(t, self, err, func() {
			n := &node{text: fmt.Sprintf("uid %d, gid %d", self.UID, self.GID)}
			n.add("process %d, started %s", self.PID, sinceBoot(self.Started))
			n.addPlace(self.Unit, self.UnitReason, self.App)
			n.add("%s", finding("measured", self.Measured))
			n.add("%s", finding("keys", self.Keys))
			if x := self.Executable; x != nil {
				n.addExecutable(x, fmt.Sprintf("observed by %s, never proof", self.Method))
			}
			n.draw(t)
		})
	})
}

// addPlace adds the unit of a process, or why it has none, and its application.
func (n *node) addPlace(unit, reason, app string) {
	if unit != "" {
		n.add("unit %s", unit)
	} else {
		n.add("no system unit: %s", strings.TrimPrefix(reason, "no systemd system unit: "))
	}
	if app != "" {
		n.add("application %s", app)
	}
}

// addExecutable adds what a process was seen to run.
func (n *node) addExecutable(x *evidence.Executable, how string) {
	e := n.add("executable %s %s (%s)", x.State, x.Path, how)
	if x.Digest != nil {
		e.add("digest %s", x.Digest)
	}
}

func finding(what string, f api.Finding) string {
	if f.Yes {
		return fmt.Sprintf("%s: yes: %s", what, f.Reason)
	}
	return fmt.Sprintf("%s: no: %s", what, f.Reason)
}

const versionUsage = `Usage: agentctl version [--json]

Print the version of agentctl and, if the agent answers, that of the agent.

Examples:
  agentctl version
  agentctl version --json | jq -r .agentd
`

// versions is what version prints as JSON.
type versions struct {
	Agentctl string `json:"agentctl"`         // version of agentctl
	Agentd   string `json:"agentd,omitempty"` // version of the agent; absent if it does not answer
}

func versionCommand(t *terminal, s *sockets) *cobra.Command {
	return command("version", versionUsage, arguments(), func(c *cobra.Command, _ []string) error {
		out := versions{Agentctl: version.Version}
		if st, err := soon(c.Context(), s.clientSocket().Status); err == nil {
			out.Agentd = st.Version
		}
		if t.json {
			return t.writeJSON(out)
		}
		fmt.Fprintf(t.out, "agentctl %s\n", out.Agentctl)
		if out.Agentd != "" {
			fmt.Fprintf(t.out, "agentd %s\n", cleanLine(out.Agentd))
		} else {
			fmt.Fprintln(t.out, "agentd does not answer")
		}
		return nil
	})
}

// percent returns how much of limit is used, 0 if there is no limit.
func percent(used, limit uint64) int {
	if limit == 0 {
		return 0
	}
	return int(min(used, limit) * 100 / limit)
}

// fullness says how full the log is; empty if that is not known.
func fullness(l *api.LedgerStatus) string {
	if l.Limit == 0 {
		return ""
	}
	return fmt.Sprintf("%d %%", percent(l.Bytes, l.Limit))
}

// prefixed returns text between two others, empty if text is.
func prefixed(before, text, after string) string {
	if text == "" {
		return ""
	}
	return before + text + after
}

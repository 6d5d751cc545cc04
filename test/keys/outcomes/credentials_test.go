// SPDX-License-Identifier: Apache-2.0

package outcomes

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"testing"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/internal/declared"
	"github.com/cvm-agentd/agentd/internal/metrics/metricstest"
	"github.com/cvm-agentd/agentd/sealing"
)

// asks is the unit for which this program asks for a credential, in the place of the tests.
const asks = "AGENTD_TEST_ASKS"

// credential is what root provisions for billing, and its content.
const credential, content = "db-password", "swordfish"

// askAsSystemd connects to a socket as systemd does, and prints what it reads.
func askAsSystemd(unit, socket string) error {
	from := &net.UnixAddr{Net: "unix", Name: fmt.Sprintf("@%x/unit/%s/%s", os.Getpid(), unit, credential)}
	c, err := net.DialUnix("unix", from, &net.UnixAddr{Net: "unix", Name: socket})
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = io.Copy(os.Stdout, c)
	return errors.Join(err, c.CloseWrite())
}

// credentialRows are the rows of the other table that concern credentials too.
var credentialRows = []string{
	"daemon killed", "machine rebooted", "other chip, for good", "other launch measurement", "TCB raised", "TPM cleared", "other TPM",
	"all files rolled back", "manifest deleted", "other unit under the name of the app",
	"upgraded to another launch measurement in this folder", "upgraded, then launched as before",
}

// programRows are what happens to the program of the unit. systemd asks, so the agent measures it then.
func programRows() []outcome {
	replaced := func(b *bed) { b.provisioned("key", "require-digest", "--app", "billing"); b.upgrade("billing", "two") }
	return []outcome{
		{what: "program replaced", do: func(b *bed) { b.upgrade("billing", "two") }},
		{what: "program replaced, digest required", do: replaced, code: "digest-not-authorised",
			after: "authorised", then: func(b *bed) { b.authorize(b.digest("billing")) }},
		{what: "program replaced, digest required, then put back", do: func(b *bed) { replaced(b); b.upgrade("billing", "one") }},
		{what: "program removed", do: func(b *bed) { must(b.t, os.Remove(b.program("billing"))) }, code: "measurement-failed", after: "put back", then: func(b *bed) { b.upgrade("billing", "one") }},
		{what: "removed by root", do: func(b *bed) { b.provisioned("secret", "remove", "--app", "billing", credential) }, code: "not-found"},
	}
}

// TestCredentials does rows to a machine on which root provisioned a credential, and writes the table:
// what the unit gets, of an agent that believes who asks.
func TestCredentials(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("systemd asks as root")
	}
	t.Parallel()
	all, mine := outcomes(), programRows()
	for _, what := range credentialRows {
		mine = append(mine, all[slices.IndexFunc(all, func(o outcome) bool { return o.what == what })])
	}
	doc := newTable(t, "credentials", len(mine), "| what happens | the unit gets | code | then |", "|---|---|---|---|")
	for i, o := range mine {
		t.Run(o.what, func(t *testing.T) {
			t.Parallel()
			b := newBed(t)
			b.provisioned("secret", "put", "--app", "billing", credential)
			doc.put(t, i, b.credentialRow(o))
		})
	}
}

// provisioned has root do something, and switches the machine off.
func (b *bed) provisioned(args ...string) {
	b.t.Helper()
	b.digest("billing")
	b.do(root, content, args...)
	b.off()
}

// load asks for the credential as systemd does for a unit. It returns what the unit gets, and the code
// of the refusal from the figures of the agent.
func (b *bed) load(unit string) (got, code string) {
	b.t.Helper()
	self, err := os.Executable()
	must(b.t, err)
	before := b.refusals()
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), asks+"="+unit, declared.Variable+"="+unit, declared.SystemdVariable+"=1")
	cmd.Args = append(cmd.Args, filepath.Join(b.dir, "credentials.sock"))
	out, err := cmd.Output()
	must(b.t, err)
	for c, n := range b.refusals() {
		if n > before[c] {
			code = c
		}
	}
	switch {
	case len(out) > 1<<20: // systemd takes no more, and fails the unit
		return "", code
	case len(out) == 0:
		b.t.Fatal("the unit would start with an empty credential")
	}
	return string(out), code
}

// foretells returns what the contract of the credential says of each change, and switches the machine
// off.
func (b *bed) foretells() map[string]api.ContractChange {
	b.t.Helper()
	c, err := contractOf(b.do(root, "", "key", "show", "billing", sealing.Provisioned+credential, "--json"))
	must(b.t, err)
	b.off()
	if first := c.Openers[0]; first.Who != "systemd for unit billing.service, as credential "+credential {
		b.t.Errorf("%+v", first)
	}
	return changesOf(c)
}

var refusal = regexp.MustCompile(`^agentd_credentials_refused_total\{kind="credential",code="([a-z0-9-]+)"\}$`)

// refusals are the refused credentials by code.
func (b *bed) refusals() map[string]float64 {
	b.t.Helper()
	admin := b.m.Admin()
	defer admin.Close()
	text, err := admin.Metrics(b.t.Context())
	must(b.t, err)
	samples, err := metricstest.Parse(text)
	must(b.t, err)
	out := map[string]float64{}
	for name, n := range samples {
		if m := refusal.FindStringSubmatch(name); m != nil {
			out[m[1]] = n
		}
	}
	return out
}

// credentialRow does o, holds what the unit gets to what o says, and returns the row.
func (b *bed) credentialRow(o outcome) string {
	b.t.Helper()
	unit := billing.unit
	if o.who.unit != "" {
		unit = o.who.unit
	}
	foretold := b.foretells()
	if o.do != nil {
		o.do(b)
	}
	b.on()
	got, code := b.load(unit)
	if code != o.code || (got == content) != (o.code == "") || got != content && got != "" {
		b.t.Fatalf("got %q, code %q, want code %q\n%s", got, code, o.code, b.m.Output())
	}
	if f, ok := foretold[o.change]; o.change != "" && (!ok || string(f.Code) != code || f.Opens != (code == "")) {
		b.t.Errorf("the contract foretold %+v", f)
	}
	result, then := "its credential", ""
	if code != "" {
		result, code = "nothing: it does not start", "`"+code+"`"
	}
	if o.then != nil {
		o.then(b)
		then = o.after + ": starts"
		for range 2 {
			b.on()
			if got, code := b.load(unit); got != content {
				b.t.Errorf("in the end: %q, code %q\n%s", got, code, b.m.Output())
			}
			b.off()
		}
	}
	return fmt.Sprintf("| %s | %s | %s | %s |", o.what, result, code, then)
}

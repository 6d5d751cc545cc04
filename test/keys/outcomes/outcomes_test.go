// SPDX-License-Identifier: Apache-2.0

package outcomes

import (
	"fmt"
	"os"
	"testing"
)

// outcome is one row of the table in docs/sealing.md. Before it, app billing sealed
// "token" on a machine with SNP and TPM, with a recovery recipient, which is off now.
type outcome struct {
	what       string
	change     string     // of the contract that must have foretold it, or ""
	do         func(*bed) // what happens
	who        caller     // asks afterwards; billing if empty
	associated string     // file with the data that are given; those of sealing if empty
	code       string     // of the answer; "" if it opens
	exit       int        // of agentctl
	field      string     // that the answer names
	after      string     // in words: what is done then
	then       func(*bed) // does it; "token" must open afterwards
	measured   bool       // the app is to be measured when it asks
	root       bool       // the row becomes another user
}

// Exit codes of agentctl.
const (
	missing     = 1
	unavailable = 6
	refused     = 7
	closed      = 8
)

func outcomes() []outcome {
	var all []outcome
	for _, rows := range [][]outcome{machineRows(), appRows(), tpmRows(), rollbackRows(), fileRows(), foreignRows(), upgradeRows()} {
		all = append(all, rows...)
	}
	return all
}

// TestOutcomes does every row to a machine of its own and writes the table (cases 67 to
// 72): the real commands, a real software TPM, and whatever the row does to them.
func TestOutcomes(t *testing.T) {
	t.Parallel()
	all := outcomes()
	doc := newTable(t, "outcomes", len(all), "| what happens | the app gets | code | exit | names | its signing key | then |", "|---|---|---|---|---|---|---|")
	for i, o := range all {
		t.Run(o.what, func(t *testing.T) {
			t.Parallel()
			if o.root && os.Geteuid() != 0 {
				t.Skip("becomes another user: for root")
			}
			doc.put(t, i, o.row(run(newBed(t), o)))
		})
	}
}

// run does one row and holds it to what it says. It returns what became of the signing key.
func run(b *bed, o outcome) (key string) {
	b.t.Helper()
	who, associated := o.who, o.associated
	if who == (caller{}) {
		who = billing
	}
	if associated == "" {
		associated = associatedFile
	}
	if o.do != nil {
		o.do(b)
	}
	before := b.read()
	b.on()
	if who.uid != 0 {
		b.shareWith()
	}
	ask := func() reply {
		b.t.Helper()
		if o.measured {
			b.digest("billing")
		}
		return b.unseal(who, "token", associated)
	}
	got := ask()
	if who.uid != 0 && got.exit < 0 {
		b.t.Skipf("cannot become another user: %v", got)
	}
	if got.code != o.code || got.exit != o.exit || got.field != o.field {
		b.t.Fatalf("got code %q, exit %d, field %q: %v\nwant code %q, exit %d, field %q\n%s", got.code, got.exit, got.field, got, o.code, o.exit, o.field, b.m.Output())
	}
	if o.code == "" {
		must(b.t, b.opens(got, who))
	} else {
		if len(got.out) > 0 {
			b.t.Errorf("besides the error it printed %q", got.out)
		}
		after := b.read()
		for name := range before {
			if _, ok := after[name]; !ok {
				b.t.Errorf("%s is gone after the refusal", name)
			}
		}
	}
	if o.change != "" {
		f, ok := shared.foretold[o.change]
		if !ok || string(f.Code) != o.code || f.Opens != (o.code == "") {
			b.t.Errorf("the contract foretold %+v", f)
		}
	}
	key = b.signingKey(who)
	if o.then == nil {
		return key
	}
	o.then(b)
	b.on()
	must(b.t, b.opens(ask(), who))
	b.off()
	b.on()
	if err := b.opens(ask(), who); err != nil {
		b.t.Errorf("after one more boot: %v", err)
	}
	return key
}

// row is o as a line of the table, with what became of the signing key.
func (o outcome) row(key string) string {
	result, code, then := "the secret", "", ""
	if o.code != "" {
		result, code = "an error", "`"+o.code+"`"
	}
	if o.after != "" {
		then = o.after + ": opens"
	}
	return fmt.Sprintf("| %s | %s | %s | %d | %s | %s | %s |", o.what, result, code, o.exit, o.field, key, then)
}

// recovered recovers with the right identity, after a wrong one was refused.
func recovered(b *bed) {
	b.t.Helper()
	b.on()
	right := []string{"--store-key", shared.storeKey, "--recipient", shared.recipient}
	if r := b.try(root, "", append([]string{"key", "recover", "--identity", inShared(wrongIdentity)}, right...)...); r.exit != closed || r.code != "wrong-identity" {
		b.t.Errorf("wrong identity: %v", r)
	}
	b.do(root, "", append([]string{"key", "recover", "--identity", inShared(rightIdentity)}, right...)...)
}

// salvaged recovers without an identity.
func salvaged(b *bed) {
	b.t.Helper()
	b.do(root, "", "key", "recover", "--recipient", shared.recipient)
}

// accepted accepts what was put back.
func accepted(b *bed) {
	b.t.Helper()
	b.do(root, "", "key", "accept-rollback")
}

// undo takes back what f changes on a machine that is off.
func undo(f func(*bed)) func(*bed) {
	return func(b *bed) { b.off(); f(b) }
}

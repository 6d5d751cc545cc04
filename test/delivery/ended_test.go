// SPDX-License-Identifier: Apache-2.0

package delivery

import (
	"context"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/api"
)

// apiCode returns the code of an answer.
func apiCode(err error) api.Code {
	if p, ok := errors.AsType[*api.Problem](err); ok {
		return p.Code
	}
	return ""
}

// TestEnded: case 130. A ticket whose agent was restarted, that is expired, that a later one replaced, or
// whose app was changed, stores nothing.
func TestEnded(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.ticket("restarted", "token")
	restarted := b.file("m1", b.send("restarted", "token", "hunter2"))
	b.restart()
	b.refused("a restart between", api.CodeTicketUnknown, 1, "", "secret", "receive", restarted)

	b.ticket("expired", "token", "--valid-for", "1s")
	expired := b.file("m2", b.send("expired", "token", "hunter2"))
	until(t, "the ticket is expired", func() bool { return open(t, b) == "0" })
	b.refused("an expired ticket", api.CodeTicketExpired, 1, "", "secret", "receive", expired)

	b.ticket("first", "token")
	first := b.file("m3", b.send("first", "token", "hunter2"))
	b.ticket("later", "token")
	b.refused("a ticket that a later one replaced", api.CodeTicketUnknown, 1, "", "secret", "receive", first)

	later := b.file("m4", b.send("later", "token", "hunter2"))
	b.program("billing", "billing two")
	b.refused("another program", api.CodeAppChanged, 1, "", "secret", "receive", later)
	b.ticket("two", "password")
	b.refused("a program that the policy does not list", "", 5, "hunter2", b.sending("two", "password")...)
	if got := b.stored(); got != "" {
		t.Errorf("stored: %s", got)
	}
	b.program("billing", "billing one")
	b.do("", "secret", "receive", "--out", "r4", later)
	b.do("", "secret", "receipt", "--delivery", "later", "r4")
}

// open is the number of open tickets, by the metrics.
func open(t *testing.T, b *bed) string {
	t.Helper()
	text, err := b.Admin().Metrics(t.Context())
	must(t, err)
	_, rest, _ := strings.Cut(string(text), "\nagentd_delivery_tickets_open ")
	n, _, _ := strings.Cut(rest, "\n")
	return n
}

// TestOldChallenge: a relying party sends nothing by a challenge that is old by its clock, or from the
// future, and reads nothing else as a delivery.
func TestOldChallenge(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.ticket("d", "token")
	raw, err := os.ReadFile(filepath.Join(b.home, "d"))
	must(t, err)
	_, rest, ok := strings.Cut(string(raw), `"made":`)
	made, _, ok2 := strings.Cut(rest, "}")
	if !ok || !ok2 {
		t.Fatalf("a record %s", raw)
	}
	for what, text := range map[string]string{
		"old": strings.Replace(string(raw), made, "1000000000", 1), "of the future": strings.Replace(string(raw), made, "9000000000", 1),
		"of another version": strings.Replace(string(raw), "delivery/1", "delivery/2", 1), "cut": string(raw[:20]),
	} {
		b.file("d", []byte(text))
		b.refused("a record that is "+what, "", 1, "hunter2", b.sending("d", "token")...)
	}
	b.file("d", raw)
	if _, stderr, code := b.run("", "secret", "challenge", "--delivery", "d"); code != 1 || !strings.Contains(stderr, "exists") {
		t.Errorf("a second challenge in one file: exit code %d\n%s", code, stderr)
	}
	b.send("d", "token", "hunter2", "--max-age", "1h")
}

// TestKilled: case 130. The agent is killed at each step, at a fact that shows how far it is. What was
// stored is the whole secret or nothing, and a delivery by a new ticket always succeeds.
func TestKilled(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	replace := []string(nil)
	for _, c := range []struct {
		what string
		kill func(delivery string) // ends the machine; nothing after it asks the machine
	}{
		{"before the ticket went out", func(delivery string) {
			challenge, err := hex.DecodeString(b.challenge(delivery))
			must(t, err)
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() {
				_, err := b.Admin().Ticket(ctx, api.TicketRequest{App: "billing", Name: "token", Challenge: challenge, ValidFor: 60, AnySender: true, Replace: replace != nil})
				done <- err
			}()
			must(t, b.Off())
			cancel()
			<-done
		}},
		{"after the ticket went out", func(delivery string) { b.ticket(delivery, "token", replace...); must(t, b.Off()) }},
		{"while the secret is stored", func(delivery string) {
			b.ticket(delivery, "token", replace...)
			message := b.send(delivery, "token", "killed", replace...)
			blobs := b.blobs()
			done := make(chan error, 1)
			m := b.Machine
			go func() {
				_, err := m.Admin().Receive(context.WithoutCancel(t.Context()), message)
				done <- err
			}()
			until(t, "a file of the store is new", func() bool { return b.blobs() != blobs || len(done) > 0 })
			must(t, b.Off())
			<-done
		}},
		{"after the secret was stored", func(delivery string) {
			b.ticket(delivery, "token", replace...)
			_, err := b.Admin().Receive(t.Context(), b.send(delivery, "token", "killed", replace...))
			must(t, err)
			must(t, b.Off())
		}},
	} {
		b.killed(c.what, &replace, c.kill)
	}
}

// killed kills the machine, and looks at what it has when it is on again.
func (b *bed) killed(what string, replace *[]string, kill func(string)) {
	b.t.Helper()
	name := strings.ReplaceAll(what, " ", "-")
	before := ""
	if *replace != nil {
		before = b.loaded("billing.service", "token")
	}
	kill(name)
	b.on(b.Dir)
	*replace = nil
	got := ""
	if b.stored() != "" {
		*replace = []string{"--replace"}
		got = b.loaded("billing.service", "token")
	}
	if got != before && got != "killed" || what == "after the secret was stored" && got != "killed" {
		b.t.Errorf("%s: the unit got %q before, and %q after", what, before, got)
	}
	again := name + "-again"
	b.ticket(again, "token", *replace...)
	b.do("", "secret", "receive", "--out", again+".receipt", b.file(again+".message", b.send(again, "token", what, *replace...)))
	b.do("", "secret", "receipt", "--delivery", again, again+".receipt")
	*replace = []string{"--replace"}
	if got := b.loaded("billing.service", "token"); got != what {
		b.t.Errorf("%s: after the next delivery the unit gets %q", what, got)
	}
}

// blobs are the names of the files of the store.
func (b *bed) blobs() string {
	names, err := filepath.Glob(filepath.Join(b.Dir, "state", "sealed", "*"))
	must(b.t, err)
	return strings.Join(names, " ")
}

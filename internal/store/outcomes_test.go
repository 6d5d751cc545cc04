// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/platform/soft"
	"github.com/cvm-agentd/agentd/internal/store"
	"github.com/cvm-agentd/agentd/sealing"
)

var update = flag.Bool("update", false, "write the generated parts of docs/sealing.md again")

// outcome is one row: what a program gets that uses this package by itself. Package
// test/keys/outcomes does the same to a running agent and writes the table in
// docs/sealing.md, which must say the same unless alone is set. Before it, app
// billing sealed "token" on a machine with SNP and TPM, with a recovery recipient.
type outcome struct {
	what   string
	change sealing.Change                   // of the contract that must foretell it, or ""
	do     func(*bed) store.Caller          // what happens; returns who asks afterwards
	want   api.Code                         // "" if it opens
	field  string                           // that the error names
	after  string                           // in words: what is tried then
	then   func(*bed) (*store.Store, error) // tries it; "token" must open afterwards
	alone  bool                             // the agent says something else, earlier
}

// asked returns the caller that asks if nothing about the app has changed.
func asked(f func(*bed)) func(*bed) store.Caller {
	return func(b *bed) store.Caller { f(b); return billing }
}

func as(c store.Caller) func(*bed) store.Caller {
	return func(*bed) store.Caller { return c }
}

// undo is a row's way back by taking the change back.
func undo(f func(*bed)) func(*bed) (*store.Store, error) {
	return func(b *bed) (*store.Store, error) { f(b); return b.open(), nil }
}

func rewrap(b *bed) (*store.Store, error) {
	s := b.open()
	if r, err := s.Rewrap(b.t.Context()); err != nil || len(r.Kept) > 0 {
		return nil, fmt.Errorf("%v, %w", r, err)
	}
	st, err := s.State(b.t.Context())
	if err != nil || st.Rewrap {
		return nil, fmt.Errorf("%+v, %w", st, err)
	}
	return s, nil
}

func recovered(b *bed) (*store.Store, error) {
	s := b.open()
	_, wrong := identity(b.t)
	how := store.Recovery{Identities: wrong, StoreKey: signer(b.t, b.read()), Recipients: b.config.Recipients}
	if _, err := s.Recover(b.t.Context(), how); !errors.Is(err, api.CodeWrongIdentity) {
		return nil, fmt.Errorf("wrong identity: %w", err)
	}
	how.Identities = b.ids
	if r, err := s.Recover(b.t.Context(), how); err != nil || len(r.Kept) > 0 {
		return nil, fmt.Errorf("%v, %w", r, err)
	}
	return b.open(), nil
}

func salvaged(b *bed) (*store.Store, error) {
	s := b.open()
	_, err := s.Recover(b.t.Context(), store.Recovery{Recipients: b.config.Recipients})
	return s, err
}

func accepted(b *bed) (*store.Store, error) {
	s := b.open()
	return s, s.AcceptRollback(b.t.Context())
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// put replaces the blob of "token".
func put(b *bed, f func(old []byte) []byte) {
	file, content := b.file("billing", "token")
	b.write(file, f(content))
}

func outcomes() []outcome {
	chip := func(n byte) func(*bed) {
		return func(b *bed) { b.soft.ChipSecret = []byte(strings.Repeat(string(rune(n)), 32)) }
	}
	unit, user, other, unmeasured := billing, billing, billing, billing
	unit.App.Unit = "evil.service"
	user.App.User = "mallory"
	other.Digest, unmeasured.Digest = evidence.Digest{9}, evidence.Digest{}
	require := func(b *bed) { must(b.t, b.open().RequireDigest(b.t.Context(), billing.App, billing.Digest)) }
	again := func(b *bed) { sealText(b.t, b.open(), billing, "token", "hunter2") }
	return []outcome{
		{what: "daemon restarted, the TPM runs on", change: sealing.ChangeRestart, do: asked(func(*bed) {})},
		{what: "machine rebooted", change: sealing.ChangeRestart, do: asked(func(b *bed) { b.tpm.Reboot() })},
		{what: "power cut", change: sealing.ChangeRestart, do: asked(func(b *bed) { b.tpm.PowerCut() })},

		{what: "other chip", change: sealing.ChangeChip, do: asked(chip(2)), want: api.CodeOtherChip, field: "chip-id",
			after: "on the old chip again", then: undo(chip(1))},
		{what: "other chip, for good", change: sealing.ChangeChip, do: asked(chip(2)), want: api.CodeOtherChip, field: "chip-id",
			after: "recovered with the right identity (a wrong one: `wrong-identity`)", then: recovered},
		{what: "other chip that masks its id", do: asked(func(b *bed) { chip(2)(b); b.soft.MaskChipID = true }), want: api.CodeOtherChip, field: "chip-id"},
		{what: "chip id masked from now on, same chip", do: asked(func(b *bed) { b.soft.MaskChipID = true })},
		{what: "chip ids masked here and there, other chip", do: asked(func(b *bed) {
			b.soft.MaskChipID = true
			_, err := rewrap(b)
			must(b.t, err)
			chip(2)(b)
		}), want: api.CodeWrongKey, after: "recovered with the right identity", then: recovered},
		{what: "other launch measurement", change: sealing.ChangeMeasurement, do: asked(func(b *bed) { b.soft.Measurement[3] = 7 }),
			want: api.CodeOtherMeasurement, field: "measurement",
			after: "launched as before", then: undo(func(b *bed) { b.soft.Measurement = soft.Measurement() })},
		{what: "guest policy changed (debug allowed)", change: sealing.ChangePolicy, do: asked(func(b *bed) { b.soft.Policy = 3<<16 | 1<<19 }),
			want: api.CodeGuestPolicyChanged, field: "guest-policy",
			after: "under the old policy", then: undo(func(b *bed) { b.soft.Policy = 0 })},
		{what: "other VMPL", change: sealing.ChangeVMPL, do: asked(func(b *bed) { b.soft.VMPL = 2 }), want: api.CodeOtherVMPL, field: "vmpl",
			after: "at the old VMPL", then: undo(func(b *bed) { b.soft.VMPL = 0 })},
		{what: "TCB raised", change: sealing.ChangeTCBRaised, do: asked(func(b *bed) { b.tcb(0xd2_15_00_00_00_00_00_03) }),
			after: "re-wrapped to the new TCB", then: rewrap},
		{what: "TCB raised, re-wrapped, then lowered", do: asked(func(b *bed) {
			old := b.soft.CommittedTCB
			b.tcb(0xd2_15_00_00_00_00_00_03)
			_, err := rewrap(b)
			must(b.t, err)
			b.tcb(old)
		}), want: api.CodeTCBBelow, field: "tcb",
			after: "recovered with the right identity", then: recovered},
		{what: "TCB lowered", change: sealing.ChangeTCBLowered, do: asked(func(b *bed) { b.tcb(0xd0_14_00_00_00_00_00_03) }), want: api.CodeTCBBelow, field: "tcb",
			after: "under the old TCB again", then: undo(func(b *bed) { b.tcb(0xd1_14_00_00_00_00_00_03) })},
		{what: "TCB lowered in one component, raised in another", do: asked(func(b *bed) { b.tcb(0xd2_13_00_00_00_00_00_03) }), want: api.CodeTCBBelow, field: "tcb"},
		{what: "firmware answers with an all-zero key", do: asked(func(b *bed) { b.faults = soft.Faults{ZeroKey: true} }), want: api.CodeBadDerivedKey,
			after: "firmware works again", then: undo(func(b *bed) { b.faults = soft.Faults{} })},

		{what: "other unit under the name of the app", change: sealing.ChangeAppUnit, do: as(unit), want: api.CodeOtherApp, field: "unit"},
		{what: "other app asks for the name", do: as(ledger), want: api.CodeNotFound},
		{what: "other user: the app's declaration names another", change: sealing.ChangeAppUser, do: as(user), want: api.CodeOtherUser, field: "user"},
		{what: "other associated data", do: func(b *bed) store.Caller { return billing }, want: api.CodeOtherAssociatedData, field: "associated-data"},
		{what: "digest not authorised", do: func(b *bed) store.Caller { require(b); return other }, want: api.CodeDigestNotAuthorised, field: "digests",
			after: "authorised", then: func(b *bed) (*store.Store, error) {
				s := b.open()
				return s, s.AuthorizeDigest(b.t.Context(), "billing", other.Digest)
			}},
		{what: "app not measured, digest required", do: func(b *bed) store.Caller { require(b); return unmeasured }, want: api.CodeDigestNotAuthorised, field: "digests"},
		{what: "digest authorised before the upgrade", do: func(b *bed) store.Caller {
			require(b)
			must(b.t, b.open().AuthorizeDigest(b.t.Context(), "billing", other.Digest))
			return other
		}},

		{what: "TPM cleared", change: sealing.ChangeTPMCleared, do: asked(clearTPM), want: api.CodeTPMCleared,
			after: "recovered with the right identity (a wrong one: `wrong-identity`)", then: recovered},
		{what: "other TPM", change: sealing.ChangeOtherTPM, do: asked(otherTPM), want: api.CodeOtherTPM,
			after: "recovered with the right identity", then: recovered},
		{what: "no TPM any more", alone: true, change: sealing.ChangeNoTPM, do: asked(func(b *bed) { b.tpm = nil }), want: api.CodeNoUsableSlot,
			after: "recovered with the right identity, sealed to `snp`", then: recovered},
		{what: "file with the TPM's sealed secret deleted", do: asked(func(b *bed) { removeFiles(b, "tpmsecret-") }), want: api.CodeTPMSecretMissing,
			after: "recovered with the right identity", then: recovered},

		{what: "all files rolled back", change: sealing.ChangeRollback, do: asked(func(b *bed) { back := b.snapshot(); again(b); back() }), want: api.CodeRolledBack,
			after: "accepted by root", then: accepted},
		{what: "manifest alone rolled back", change: sealing.ChangeRollback, do: asked(func(b *bed) {
			old := b.read()["manifest.sealed"]
			sealText(b.t, b.open(), billing, "more", "x")
			b.write("manifest.sealed", old)
		}), want: api.CodeRolledBack, after: "accepted by root", then: accepted},
		{what: "accepted, then the newer files put back", do: asked(func(b *bed) {
			back := b.snapshot()
			again(b)
			forward := b.snapshot()
			back()
			_, err := accepted(b)
			must(b.t, err)
			forward()
		}), want: api.CodeCounterLost, after: "accepted by root", then: accepted},
		{what: "counter ahead by one: another program counted", do: asked(func(b *bed) {
			_, err := b.root().Increment(b.t.Context(), b.counter)
			must(b.t, err)
		}), want: api.CodeRolledBack, after: "accepted by root", then: accepted},
		{what: "counter removed from the TPM", do: asked(func(b *bed) { must(b.t, b.root().RemoveCounter(b.t.Context(), b.counter)) }),
			want: api.CodeCounterLost, after: "accepted by root", then: accepted},
		{what: "TPM rolled back, files not", do: asked(func(b *bed) { old := b.tpm.Clone(); again(b); again(b); b.tpm = old }), want: api.CodeCounterBehind,
			after: "accepted by root", then: accepted},
		{what: "TPM rolled back by one, files not", do: asked(func(b *bed) { old := b.tpm.Clone(); again(b); b.tpm = old })},
		{what: "TPM and files rolled back together: not noticed", do: asked(func(b *bed) {
			old, back := b.tpm.Clone(), b.snapshot()
			again(b)
			b.tpm = old
			back()
		})},
		{what: "clone of files and TPM on the same chip: not noticed", do: asked(func(b *bed) { b.tpm = b.tpm.Clone() })},
		{what: "manifest deleted", do: asked(func(b *bed) { removeFiles(b, "manifest") }), want: api.CodeManifestLost,
			after: "salvaged by root, without an identity", then: salvaged},
		{what: "manifest damaged", do: asked(func(b *bed) { m := b.read()["manifest.sealed"]; m[99] ^= 1; b.write("manifest.sealed", m) }),
			want: api.CodeDamaged, field: "name", after: "salvaged by root, without an identity", then: salvaged},

		{what: "blob of an older generation put in the place", do: asked(func(b *bed) {
			_, old := b.file("billing", "token")
			again(b)
			put(b, func([]byte) []byte { return old })
		}), want: api.CodeOldGeneration, field: "generation"},
		{what: "blob of another secret of the app in the place", do: asked(func(b *bed) {
			sealText(b.t, b.open(), billing, "more", "x")
			_, more := b.file("billing", "more")
			put(b, func([]byte) []byte { return more })
		}), want: api.CodeRenamed, field: "id"},
		{what: "blob of another app in the place", do: asked(func(b *bed) {
			sealText(b.t, b.open(), ledger, "token", "x")
			_, theirs := b.file("ledger", "token")
			put(b, func([]byte) []byte { return theirs })
		}), want: api.CodeOtherApp, field: "app"},
		{what: "blob deleted", do: asked(func(b *bed) { file, _ := b.file("billing", "token"); os.Remove(filepath.Join(b.path, file)) }), want: api.CodeMissing},
		{what: "blob truncated by a byte", do: asked(func(b *bed) { put(b, func(old []byte) []byte { return old[:len(old)-1] }) }), want: api.CodeTruncated},
		{what: "blob truncated to nothing", do: asked(func(b *bed) { put(b, func([]byte) []byte { return nil }) }), want: api.CodeTruncated},
		{what: "bytes after the end", do: asked(func(b *bed) { put(b, func(old []byte) []byte { return append(old, 0) }) }), want: api.CodeDamaged, field: "end"},
		{what: "wrapped key of another blob", do: asked(func(b *bed) { swap(b, 18) }), want: api.CodeAltered},
		{what: "slots and wrapped key of another blob", do: asked(func(b *bed) { swap(b, 17, 18) }), want: api.CodeAltered},
		{what: "slots, wrapped keys and id of another blob", do: asked(func(b *bed) { swap(b, 1, 17, 18) }), want: api.CodeAltered},
		{what: "payload of another blob", do: asked(func(b *bed) { swap(b, 19) }), want: api.CodeAltered},
	}
}

func clearTPM(b *bed) {
	_, err := tpm2.Clear{AuthHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHLockout, Auth: tpm2.PasswordAuth(nil)}}.Execute(b.tpm)
	must(b.t, err)
}

func otherTPM(b *bed) { b.tpm = newBed(b.t).tpm }

func removeFiles(b *bed, prefix string) {
	for name := range b.read() {
		if strings.HasPrefix(name, prefix) {
			must(b.t, os.Remove(filepath.Join(b.path, name)))
		}
	}
}

// swap takes fields of another blob of the app, with every checksum right.
func swap(b *bed, tags ...uint16) {
	sealText(b.t, b.open(), billing, "more", "another one")
	_, more := b.file("billing", "more")
	put(b, func(old []byte) []byte {
		return change(b.t, old, func(ours func(uint16) *[]byte) {
			change(b.t, more, func(theirs func(uint16) *[]byte) {
				for _, tag := range tags {
					*ours(tag) = *theirs(tag)
				}
			})
		})
	})
}

// attempt is what an app gets: the code and field of the error, or "".
func attempt(b *bed, s *store.Store, c store.Caller, associated string) (*sealing.Error, error) {
	data, err := s.Unseal(b.t.Context(), c, "token", []byte(associated))
	if err != nil {
		var e *sealing.Error
		if !errors.As(err, &e) {
			return nil, err
		}
		return e, nil
	}
	got, err := text(data, nil)
	if err == nil && got != "hunter2" {
		err = fmt.Errorf("it opened and holds %q", got)
	}
	return nil, err
}

// TestOutcomes runs every row (cases 67 to 72): on a software platform in the place of
// the firmware, a software TPM, and files on disk.
func TestOutcomes(t *testing.T) {
	var alone strings.Builder
	alone.WriteString("| what happens | the program gets | code | names | then |\n|---|---|---|---|---|\n")
	documented := documentedOutcomes(t)
	skipped := false
	for _, o := range outcomes() {
		t.Run(o.what, func(t *testing.T) {
			t.Cleanup(func() { skipped = skipped || t.Skipped() })
			b := newBed(t)
			s := b.open()
			sealText(t, s, billing, "token", "hunter2")
			foretold, err := s.Contract(t.Context(), "billing", "token")
			must(t, err)
			c := o.do(b)
			before := b.read()
			associated := "ad"
			if o.want == api.CodeOtherAssociatedData {
				associated = "other"
			}
			s = b.open()
			got, err := attempt(b, s, c, associated)
			must(t, err)
			if got == nil {
				got = &sealing.Error{}
			}
			if got.Code != o.want || got.Field != o.field {
				t.Fatalf("got %q (%s): %v\nwant %q (%s)", got.Code, got.Field, got, o.want, o.field)
			}
			if got.Code != "" && got.Detail == "" {
				t.Error("the error explains nothing")
			}
			if got.Code != "" && len(b.read()) < len(before) {
				t.Error("files are gone after the refusal")
			}
			if o.change != "" {
				if w := foretold.WhatIf(o.change); w.Code != got.Code || w.Opens != (got.Code == "") {
					t.Errorf("the contract foretold %q", w)
				}
			}
			if o.then != nil {
				s, err := o.then(b)
				must(t, err)
				if e, err := attempt(b, s, c, associated); e != nil || err != nil {
					t.Errorf("%s: %v, %v", o.after, e, err)
				}
			}
			if o.alone {
				row(&alone, o, got)
			} else if d, ok := documented[o.what]; !ok || d != (documentedOutcome{got.Code, got.Field}) {
				t.Errorf("docs/sealing.md says %+v (%v) of the agent", d, ok)
			}
		})
	}
	if skipped {
		t.Skip("some outcomes were skipped: the table in docs/sealing.md is not compared")
	}
	checkDoc(t, "outcomes-package", alone.String())
}

// documentedOutcome is a row of the table that the agent's test writes.
type documentedOutcome struct {
	code  api.Code
	field string
}

func documentedOutcomes(t *testing.T) map[string]documentedOutcome {
	t.Helper()
	out := map[string]documentedOutcome{}
	for line := range strings.Lines(documentedPart(t, "outcomes")) {
		cells := strings.Split(line, " | ")
		if len(cells) != 7 {
			continue // the line under the titles
		}
		out[strings.TrimPrefix(cells[0], "| ")] = documentedOutcome{api.Code(strings.Trim(cells[2], " `")), strings.TrimSpace(cells[4])}
	}
	if len(out) < 40 {
		t.Fatalf("only %d outcomes are documented", len(out))
	}
	return out
}

func row(table *strings.Builder, o outcome, got *sealing.Error) {
	result, code, then := "the secret", "", ""
	if got.Code != "" {
		result, code = "an error", "`"+string(got.Code)+"`"
	}
	if o.after != "" {
		then = o.after + ": opens"
	}
	fmt.Fprintf(table, "| %s | %s | %s | %s | %s |\n", o.what, result, code, got.Field, then)
}

// documentPath is the specification.
var documentPath = filepath.Join("..", "..", "docs", "sealing.md")

// documentedPart is a generated part of docs/sealing.md.
func documentedPart(t *testing.T, part string) string {
	t.Helper()
	b, err := os.ReadFile(documentPath)
	must(t, err)
	_, rest, ok := strings.Cut(string(b), "<!-- "+part+": begin -->\n")
	text, _, ok2 := strings.Cut(rest, "<!-- "+part+": end -->")
	if !ok || !ok2 {
		t.Fatalf("%s: the marks around %q are missing", documentPath, part)
	}
	return text
}

// checkDoc compares a generated part of docs/sealing.md with what this code does.
func checkDoc(t *testing.T, part, want string) {
	t.Helper()
	if t.Failed() {
		return
	}
	old := documentedPart(t, part)
	if old == want {
		return
	}
	if !*update {
		t.Fatalf("%s: %q is not what the code does; run go test ./internal/store -update", documentPath, part)
	}
	b, err := os.ReadFile(documentPath)
	must(t, err)
	begin := "<!-- " + part + ": begin -->\n"
	must(t, os.WriteFile(documentPath, bytes.Replace(b, []byte(begin+old), []byte(begin+want), 1), 0o644))
}

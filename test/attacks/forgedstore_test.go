// SPDX-License-Identifier: Apache-2.0

package attacks

import (
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/age"
)

// recipient makes a recovery identity in a file.
func recipient(t *testing.T) (identity, recipient string) {
	t.Helper()
	i, err := age.GenerateX25519Identity()
	must(t, err)
	return write(t, i.String()+"\n"), i.Recipient().String()
}

// keepKeys switches a machine on that seals to these recipients too.
func keepKeys(t *testing.T, dir string, recipients ...string) *target {
	t.Helper()
	must(t, os.MkdirAll(filepath.Join(dir, "apps.d"), 0o700))
	must(t, os.WriteFile(filepath.Join(dir, "config.toml"), fmt.Appendf(nil, "[keys]\nrecovery_recipients = [%s]\n", `"`+strings.Join(recipients, `", "`)+`"`), 0o600))
	must(t, os.WriteFile(filepath.Join(dir, "billing.bin"), []byte("a program"), 0o700))
	must(t, os.WriteFile(filepath.Join(dir, "apps.d", "billing.toml"), fmt.Appendf(nil, "unit = %q\nuser = %q\nfiles = [%q]\n", billing, username(t), filepath.Join(dir, "billing.bin")), 0o600))
	return on(t, dir)
}

const billing = "billing.service"

// on switches on the machine in dir, and waits until its keys were tried.
func on(t *testing.T, dir string) *target {
	t.Helper()
	x := switchOn(t, dir, "--declare-identity-without-checking")
	x.do("status", "--wait", "60s")
	x.run("measure", "--app", "billing")
	return x
}

// derived returns what the application derives, or "" and the exit code.
func (x *target) derived() (key string, code int) {
	x.t.Helper()
	file := filepath.Join(x.t.TempDir(), "key")
	code, _, stderr := x.runAs(billing, "key", "derive", "--label", "disk", "--length", "32", "--out", file)
	if code != 0 {
		x.t.Logf("derive: %s", stderr)
		return "", code
	}
	b, err := os.ReadFile(file)
	must(x.t, err)
	return hex.EncodeToString(b), 0
}

// replaceStore puts the sealed blobs of another machine in the place of a machine's own, as a
// party that writes the disk can.
func replaceStore(t *testing.T, dir, from string) {
	t.Helper()
	sealed := filepath.Join(dir, "state", "sealed")
	must(t, os.RemoveAll(sealed))
	must(t, os.CopyFS(sealed, os.DirFS(filepath.Join(from, "state", "sealed"))))
	must(t, filepath.WalkDir(sealed, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			return os.Chmod(path, 0o700)
		}
		return os.Chmod(path, 0o600)
	}))
}

// TestAttackerChoosesTheRootOfAnApplication: case 96. A recovery recipient is public, so the
// attacker makes a store of its own for the same application, on a machine of its own, that
// the victim's recovery identity opens, and its own. It writes that store to the victim's
// disk. The application gets an error, an administrator recovers: and the application's keys
// are those that the attacker knows, and what is stored from then on opens for the attacker.
func TestAttackerChoosesTheRootOfAnApplication(t *testing.T) {
	for name, moved := range map[string]bool{"on the same chip": false, "on another chip": true} {
		t.Run(name, func(t *testing.T) {
			identity, victim := recipient(t)
			theirs, eve := recipient(t)
			dir, other := filepath.Join(t.TempDir(), "m"), filepath.Join(t.TempDir(), "n")
			x := keepKeys(t, dir, victim)
			if _, code := x.derived(); code != 0 {
				t.Fatal("the application of the victim derives nothing")
			}
			storeKey := strings.TrimSpace(x.do("key", "store-key"))
			must(t, x.Stop())

			attacker := keepKeys(t, other, victim, eve)
			predicted, code := attacker.derived()
			if code != 0 {
				t.Fatal("the attacker's own machine derives nothing")
			}
			must(t, attacker.Stop())
			replaceStore(t, dir, other)
			if moved {
				must(t, os.Remove(filepath.Join(dir, "platform", "chip")))
			}

			x = on(t, dir)
			check := func(what string) {
				t.Helper()
				if key, _ := x.derived(); key == predicted {
					t.Errorf("%s: the application derives what the attacker knows", what)
				}
			}
			check("before recovery")
			refused := func(what string, want int, args ...string) {
				t.Helper()
				if code, stdout, stderr := x.run(append([]string{"key", "recover", "--identity", identity}, args...)...); code != want {
					t.Errorf("%s: exit code %d, want %d\n%s%s", what, code, want, stdout, stderr)
				}
				check(what)
			}
			refused("recovery without the store key", 1)
			refused("recovery with the store key", 8, "--store-key", storeKey, "--recipient", victim)
			refused("recovery with the store key, and the attacker's recipient", 8, "--store-key", storeKey, "--recipient", victim, "--recipient", eve)

			// By the flag that says what it means, the application gets a root that is new.
			x.do("key", "recover", "--identity", identity, "--trust-unknown-writer-of-this-disk", "--recipient", victim)
			check("recovery from an unknown writer")
			password := write(t, "the new password")
			if code, _, stderr := x.runAs(billing, "seal", "--name", "password", password); code != 0 {
				t.Fatalf("seal: exit code %d\n%s", code, stderr)
			}
			newKey := strings.TrimSpace(x.do("key", "store-key"))
			must(t, x.Stop())
			replaceStore(t, other, dir)
			attacker = on(t, other)
			code, stdout, _ := attacker.run("key", "recover", "--identity", theirs, "--trust-unknown-writer-of-this-disk", "--recipient", eve)
			if read, text, _ := attacker.runAs(billing, "unseal", "--name", "password", "--out", "-"); code == 0 || read == 0 {
				t.Errorf("the attacker reads what was stored since: exit codes %d and %d\n%s%s", code, read, stdout, text)
			}
			attacker.do("key", "recover", "--identity", identity, "--store-key", newKey, "--recipient", victim) // so it was the identity that was missing
			if read, text, _ := attacker.runAs(billing, "unseal", "--name", "password", "--out", "-"); read != 0 || text != "the new password" {
				t.Errorf("the victim's identity and new store key recover nothing: exit code %d, %q", read, text)
			}
		})
	}
}

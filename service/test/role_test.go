// SPDX-License-Identifier: Apache-2.0

package test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestRoleOfItsOwn: a role that owns nothing but its database, and that comes with the password of
// password_file, is enough, as docs/verifier-service.md says.
func TestRoleOfItsOwn(t *testing.T) {
	b := newBed(t, true)
	for _, command := range []string{"CREATE ROLE verifier LOGIN PASSWORD 'long and secret'", "CREATE DATABASE verifier OWNER verifier"} {
		if _, err := b.postgres.Ask(b.postgres.Address, command); err != nil {
			t.Fatal(err)
		}
	}
	// PostgreSQL asks for passwords from now on, but on its socket.
	access := filepath.Join(filepath.Dir(b.postgres.Socket), "data", "pg_hba.conf")
	if err := os.WriteFile(access, []byte("local all all trust\nhost all verifier 127.0.0.1/32 scram-sha-256\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := b.postgres.Ask(b.postgres.Socket, "SELECT pg_reload_conf()"); err != nil {
		t.Fatal(err)
	}
	b.write("password", []byte("long and secret\n"))
	b.database = fmt.Sprintf("url = \"postgres://verifier@%s/verifier?sslmode=disable\"\npassword_file = %q", b.postgres.Address, b.path("password"))
	one, two := b.start("one"), b.start("two")
	for _, w := range []*worker{one, two} {
		eventually(t, func() error {
			if code, out := w.run("check"); code != 0 || out != "ok\n" {
				return fmt.Errorf("check: %d, %s", code, out)
			}
			return nil
		})
	}
	one.put(b.alice(), "default", easy, "", nil)
	if code, a := two.appraise("", nil); code != 200 || a.Appraisal.Verdict != "pass" {
		t.Errorf("%d, %+v", code, a)
	}
	b.write("password", []byte("another\n"))
	if code, out := one.run("check"); code != 1 || !strings.Contains(out, "password authentication failed") || strings.Contains(out, "another\n") {
		t.Errorf("with another password: %d, %s", code, out)
	}
}

// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cvm-agentd/agentd/keys"
)

// listedAs returns an enrolment of an attestation key whose name ends in a byte, and that name.
func listedAs(t *testing.T, last byte, by string) (line []byte, ak string) {
	t.Helper()
	name := append([]byte{0x00, 0x0b}, make([]byte, 32)...)
	name[33] = last
	at := time.Unix(1_800_000_000, 0)
	l, err := keys.NewListed(&keys.Enrolment{Type: keys.EnrolmentType, EK: name, AK: name, EKIssuer: keys.NoIssuer, Enrolled: at}, by, at)
	if err != nil {
		t.Fatal(err)
	}
	if line, err = l.Encode(); err != nil {
		t.Fatal(err)
	}
	return line, keys.Name(name).String()
}

// TestEnrolmentsOfFolder: what ends in .json is read, and nothing else. Of what is not a regular file, and of
// two enrolments of one key, the name is said.
func TestEnrolmentsOfFolder(t *testing.T) {
	one, first := listedAs(t, 1, "alice")
	two, second := listedAs(t, 2, "")
	t.Chdir(folder(t, map[string][]byte{"a.json": one, "b.json": append([]byte("\n"), two...), "notes.txt": []byte("x"), ".c.json-next": []byte("x")}))
	if err := os.Mkdir("d.json", 0o755); err != nil {
		t.Fatal(err)
	}
	code, stdout, stderr := agentctl(t, "enroll", "list", ".")
	if code != exitOK || !strings.Contains(stdout, first) || !strings.Contains(stdout, second) || strings.Count(stdout, "\n") != 2 {
		t.Errorf("exit code %d\n%s%s", code, stdout, stderr)
	}
	if code, stdout, _ = agentctl(t, "enroll", "list", "--pending", "."); code != exitOK || strings.Contains(stdout, first) || !strings.Contains(stdout, second) {
		t.Errorf("pending ones: exit code %d\n%s", code, stdout)
	}
	refused := func(what string, want ...string) {
		t.Helper()
		code, stdout, stderr := agentctl(t, "enroll", "list", ".")
		for _, w := range want {
			if code != exitMisuse || stdout != "" || !strings.Contains(stderr, w) {
				t.Errorf("%s: exit code %d, want %q\n%s%s", what, code, w, stdout, stderr)
			}
		}
	}
	if err := os.WriteFile("e.json", one, 0o644); err != nil {
		t.Fatal(err)
	}
	refused("two of one key", "e.json, line 1", first, "already")
	if err := os.Remove("e.json"); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo("f.json", 0o644); err != nil {
		t.Fatal(err)
	}
	refused("a pipe", "f.json", "not a regular file")
}

// TestApproveOtherKey: a file that has the name of one key and the enrolment of another is not approved, and
// stays as it was.
func TestApproveOtherKey(t *testing.T) {
	one, first := listedAs(t, 1, "")
	_, second := listedAs(t, 2, "")
	t.Chdir(folder(t, map[string][]byte{second + enrolmentSuffix: one}))
	code, _, stderr := agentctl(t, "enroll", "approve", "--enrolments", ".", "--by", "alice", second)
	if code != exitMisuse || !strings.Contains(stderr, "another attestation key, "+first) {
		t.Errorf("exit code %d\n%s", code, stderr)
	}
	if b, err := os.ReadFile(second + enrolmentSuffix); err != nil || !bytes.Equal(b, one) {
		t.Errorf("%v, the file is\n%s", err, b)
	}
}

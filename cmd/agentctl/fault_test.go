// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"strings"
	"testing"
)

// broken panics when a command writes its output.
type broken struct{}

func (broken) Write([]byte) (int, error) { panic("the writer\x1b[2J broke") }

// TestFaultIsNoVerdict: a panic ends with a code of its own, and not with that of
// forged evidence, and says on standard error what happened.
func TestFaultIsNoVerdict(t *testing.T) {
	var errs bytes.Buffer
	code := run(t.Context(), []string{"--help"}, &terminal{in: strings.NewReader(""), out: broken{}, err: &errs})
	if code != exitFault {
		t.Errorf("exit code %d, want %d", code, exitFault)
	}
	for _, want := range []string{"agentctl: agentctl itself has a fault", "broke", "fault_test.go", "hint: "} {
		if !strings.Contains(errs.String(), want) {
			t.Errorf("no %q in\n%s", want, errs.String())
		}
	}
	if strings.Contains(errs.String(), "\x1b") {
		t.Error("a control character reaches the terminal")
	}
}

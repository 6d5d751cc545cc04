// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/hex"
	"slices"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/verify"
)

// unfilled is the launch measurement of every machine's policy: a text that no launch has.
var unfilled = hex.EncodeToString([]byte("FILL IN the launch measurement of your machine.."))

// TestMachinePolicies: the policy of each machine loads as it is, lists one launch measurement, that
// of no machine, and says what is true and what is not. Their tests on machines are in test/machines
// and verify.
func TestMachinePolicies(t *testing.T) {
	if want := []string{"aws", "azure", "gcp", "qemu", "svsm"}; !slices.Equal(machineNames(), want) {
		t.Fatalf("machines %v, want %v", machineNames(), want)
	}
	for _, name := range machineNames() {
		text, err := machinePolicy(name)
		if err != nil {
			t.Fatal(err)
		}
		p, err := verify.ParsePolicy(text)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if len(p.Launches) != 1 || p.Launches[0].Measurement != unfilled || p.UnlistedLaunch != "" {
			t.Errorf("%s: launches %+v", name, p.Launches)
		}
		for _, words := range []string{"What is true there", "What cannot be true", "FILL IN", "docs/machines/"} {
			if !strings.Contains(string(text), words) {
				t.Errorf("%s: it does not say %q", name, words)
			}
		}
		for n, line := range bytes.Split(text, []byte("\n")) {
			if len(line) > 104 && !bytes.Contains(line, []byte(unfilled)) {
				t.Errorf("%s: line %d has %d columns", name, n+1, len(line))
			}
		}
	}
	for _, name := range []string{"", "ibm", "../policy", "aws.toml", "aws/"} {
		if text, err := machinePolicy(name); err == nil || !strings.Contains(err.Error(), "aws, azure, gcp, qemu, svsm") {
			t.Errorf("%q: %d bytes, %v", name, len(text), err)
		}
	}
}

// SPDX-License-Identifier: Apache-2.0

package sealing_test

import (
	"os"
	"testing"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/internal/strictjson"
	"github.com/cvm-agentd/agentd/sealing"
)

// TestGeneration: any party can write a blob, and answers of the agent show its generation.
// A number that JSON cannot carry is refused, by the check that reading and writing share.
func TestGeneration(t *testing.T) {
	file, err := os.ReadFile("testdata/worked-example.sealed")
	if err != nil {
		t.Fatal(err)
	}
	blob, err := sealing.ParseBlob(file)
	if err != nil {
		t.Fatal(err)
	}
	for generation, code := range map[uint64]api.Code{strictjson.MaxInteger: "", strictjson.MaxInteger + 1: api.CodeMalformedBlob} {
		blob.Claimed.Generation = generation
		if _, err := sealing.New(blob.Claimed); sealing.CodeOf(err) != code || (err == nil) != (code == "") {
			t.Errorf("generation %d: %v, want %q", generation, err, code)
		}
	}
}

// SPDX-License-Identifier: Apache-2.0

package launch_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/internal/vectors"
	"github.com/cvm-agentd/agentd/launch"
)

// varsSize is the size of the variables of the firmware that runs under the SVSM of the
// recordings.
const varsSize = 0x84000

// recorded is a launch measurement that another tool computed.
type recorded struct {
	Mode          string
	VMM           string
	VCPUs         int
	CPU           string
	CPUSignature  uint32 `json:"cpu_signature"`
	Firmware      string
	Kernel        *string
	Initrd        *string
	Append        *string
	GuestFeatures uint64 `json:"guest_features"`
	Measurement   string
}

const folder = "virtee_sev-snp-measure/"

func recordings(tb testing.TB) []recorded {
	tb.Helper()
	var all []recorded
	if err := json.Unmarshal(vectors.Read(tb, folder+"measurements.json"), &all); err != nil {
		tb.Fatal(err)
	}
	if len(all) != 29 {
		tb.Fatalf("%d recordings, want 29", len(all))
	}
	return all
}

// config returns what a recording is computed from.
func (r *recorded) config(tb testing.TB) *launch.Config {
	tb.Helper()
	file := func(name *string) launch.Source {
		if name == nil {
			return nil
		}
		return bytes.NewReader(vectors.Read(tb, folder+*name))
	}
	c := &launch.Config{
		VMM: launch.VMM(strings.ToLower(r.VMM)), Firmware: file(&r.Firmware), Kernel: file(r.Kernel), Initrd: file(r.Initrd),
		CPU: launch.Signature(r.CPUSignature), GuestFeatures: r.GuestFeatures,
	}
	if r.Append != nil {
		c.CommandLine = *r.Append
	}
	if r.Mode == "svsm" {
		image := "svsm.bin"
		c.SVSM, c.VarsSize = file(&image), varsSize
	}
	return c
}

// TestRecordings compares every measurement with the one that the published tool computed,
// and the signature of every named processor with its own.
func TestRecordings(t *testing.T) {
	for i, r := range recordings(t) {
		if s, err := launch.ParseCPU(r.CPU); !strings.Contains(r.CPU, " ") && (err != nil || uint32(s) != r.CPUSignature) {
			t.Errorf("%d: %s has signature %v (%v), want %#x", i, r.CPU, s, err, r.CPUSignature)
		}
		got, err := launch.Measure(r.config(t), r.VCPUs)
		if strings.HasPrefix(r.Measurement, "error") {
			if !errors.Is(err, launch.ErrNoHashTable) {
				t.Errorf("%d: a kernel without a place for its hashes: %v, %v", i, got, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%d (%+v): %v", i, r, err)
			continue
		}
		if m := hex.EncodeToString(got[0].Digest[:]); m != r.Measurement {
			t.Errorf("%d (%s, %s, %d processors, %s): got %s, want %s", i, r.Mode, r.VMM, r.VCPUs, r.CPU, m, r.Measurement)
		}
	}
}

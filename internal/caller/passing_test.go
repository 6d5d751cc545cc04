// SPDX-License-Identifier: Apache-2.0

package caller

import (
	"strings"
	"testing"
)

// TestPassing: nothing leads to a declaration for a unit that is another one next time.
func TestPassing(t *testing.T) {
	id := strings.Repeat("5f", 32)
	for unit, want := range map[string]string{
		"docker-" + id + ".scope": "container", "libpod-" + id + ".scope": "container", "libpod-conmon-" + id + ".scope": "container",
		"crio-" + id + ".scope": "container", "cri-containerd-" + id + ".scope": "container", "nerdctl-" + id + ".scope": "container",
		"session-3.scope": "login", "run-r" + id[:32] + ".scope": "--unit=NAME", "run-u17.service": "--unit=NAME", "run-p12-i13.service": "--unit=NAME", "run-4711.scope": "--unit=NAME",
		"docker.service": "", "billing.service": "", "init.scope": "", "runner.service": "", "session.service": "", "docker-registry.service": "", "docker-registry.scope": "", "run-jobs.service": "", "run-update.service": "",
	} {
		if got := Passing(unit); (got == "") != (want == "") || !strings.Contains(got, want) {
			t.Errorf("%s: %q, want %q", unit, got, want)
		}
	}
}

// SPDX-License-Identifier: Apache-2.0

package archtest

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestDNF5HookSpeaksToThePerson: the plugin of libdnf5 takes each line of the standard output of
// an action for a setting ("conf.gpgcheck=0"), and shows none of it. So what the hook says goes to
// standard error, and nothing to standard output.
func TestDNF5HookSpeaksToThePerson(t *testing.T) {
	b, err := os.ReadFile(filepath.Join(root(t), "packaging/hooks/dnf5.actions"))
	if err != nil {
		t.Fatal(err)
	}
	agentctl := filepath.Join(t.TempDir(), "agentctl")
	if err := os.WriteFile(agentctl, []byte("#!/bin/sh\necho \"conf.x=$*\"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	actions := 0
	for line := range strings.Lines(string(b)) {
		// callback:filter of packages:direction:options:command, and # begins a comment.
		fields := strings.SplitN(strings.TrimSpace(line), ":", 5)
		if strings.HasPrefix(line, "#") || len(fields) != 5 {
			continue
		}
		actions++
		var words []string // a backslash escapes a space, and there is no shell
		for _, w := range regexp.MustCompile(`(\\.|[^ \\])+`).FindAllString(fields[4], -1) {
			w = regexp.MustCompile(`\\(.)`).ReplaceAllString(w, "$1")
			words = append(words, strings.ReplaceAll(w, "/usr/bin/agentctl", agentctl))
		}
		var out, said bytes.Buffer
		c := exec.Command(words[0], words[1:]...)
		c.Stdout, c.Stderr = &out, &said
		if err := c.Run(); err != nil || out.Len() != 0 || !strings.HasPrefix(said.String(), "conf.x=app changes --note /run/agentd-changes --if-running") {
			t.Errorf("%q: %v, wrote %q to standard output and %q to standard error", words, err, &out, &said)
		}
	}
	if actions != 1 {
		t.Errorf("%d actions", actions)
	}
}

// SPDX-License-Identifier: Apache-2.0

package engines

import (
	"bytes"
	"fmt"
	"strings"
)

// containerd replaces the whole section of a plugin by that of an imported file. So a file of ours
// would take away what an administrator wrote there, and what is to be written is only shown.

// containerdState finds our runtime in the text: TOML allows the same table to be written in too
// many ways to say more.
func containerdState(content []byte) (State, error) {
	if contains(content, runtimePath("containerd", "runc")) || contains(content, runtimePath("containerd", "crun")) {
		return Enabled, nil
	}
	return Disabled, nil
}

func enableContainerd(content []byte, runtime string) ([]byte, error) {
	if contains(content, runtimePath("containerd", runtime)) {
		return content, nil
	}
	plugin := "io.containerd.grpc.v1.cri"
	if version(content) == "3" {
		plugin = "io.containerd.cri.v1.runtime"
	}
	return fmt.Appendf(nil, `[plugins."%s".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"

[plugins."%[1]s".containerd.runtimes.runc.options]
  BinaryName = "%s"
`, plugin, runtimePath("containerd", runtime)), nil
}

// disableContainerd returns the lines that an administrator has to remove.
func disableContainerd(content []byte) ([]byte, error) {
	if state, err := containerdState(content); err != nil || state == Disabled {
		return content, err
	}
	var lines []byte
	for line := range bytes.Lines(content) {
		if contains(line, runtimePath("containerd", "")) {
			lines = append(lines, line...)
		}
	}
	return append(bytes.TrimSpace(lines), '\n', '\n'), nil // never the content as it is
}

// version returns the version of the format of a config.toml.
func version(content []byte) string {
	for line := range strings.Lines(string(content)) {
		name, value, ok := strings.Cut(line, "=")
		if ok && strings.TrimSpace(name) == "version" {
			value, _, _ = strings.Cut(value, "#")
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// SPDX-License-Identifier: Apache-2.0

package caller

import "regexp"

// passing are units whose names come and go, with what to do instead of declaring one.
var passing = []struct {
	names *regexp.Regexp
	todo  string
}{
	{regexp.MustCompile(`^(docker|libpod|libpod-conmon|crio|cri-containerd|nerdctl)-[0-9a-f]{12,}\.scope$`), ofContainer},
	{regexp.MustCompile(`^session-c?[0-9]+\.scope$`), "this is the scope of a login: start the program as a system service"},
	{regexp.MustCompile(`^run-(u[0-9]+|p[0-9]+-i[0-9]+|r[0-9a-f]{8,}|[0-9]+)\.(service|scope)$`), ofRun},
}

const (
	ofContainer = "a container engine makes this scope anew for each container, so that no declaration lasts: have a system unit run the container in its own cgroup (podman: --cgroups=split), and declare that unit (docs/operating.md, \"A container under a system unit\")"
	ofRun       = "systemd-run chose this name, and will choose another: name the unit with --unit=NAME, and declare that"
)

// Passing returns why a declaration for unit would not last and what to do instead, or "" if
// the unit has a name of its own.
func Passing(unit string) string {
	for _, p := range passing {
		if p.names.MatchString(unit) {
			return p.todo
		}
	}
	return ""
}

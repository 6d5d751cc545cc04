// SPDX-License-Identifier: Apache-2.0

package workload

import (
	"slices"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/evidence"
)

// TestSelectors: an app and its digest are selectors only if the log vouches for its files since the process
// started, and what was seen to run only if that is a file.
func TestSelectors(t *testing.T) {
	digest, image := &evidence.Digest{7}, &evidence.Digest{8}
	const seven, eight, nine = "07", "08", "09"
	hex := func(first string) string { return first + strings.Repeat("0", 62) }
	whole := func(change func(*api.Process)) *api.Process {
		p := &api.Process{
			UID: 1, GID: 2, Unit: "billing.service", App: "billing", Digest: digest,
			Measured: api.Finding{Yes: true}, SinceStart: api.Finding{Yes: true},
			Executable: &evidence.Executable{State: evidence.ExecutableFile, Digest: &evidence.Digest{9}},
		}
		change(p)
		return p
	}
	measured := []string{"measured:yes", "app:billing", "digest:" + hex(seven)}
	process := []string{"uid:1", "gid:2", "unit:billing.service"}
	seen := []string{"executable:sha256:" + hex(nine)}
	for _, c := range []struct {
		name   string
		change func(*api.Process)
		want   []string
	}{
		{"measured", func(*api.Process) {}, slices.Concat(process, measured, seen)},
		{"measured now, and not since its start", func(p *api.Process) { p.SinceStart.Yes = false }, slices.Concat(process, seen)},
		{"of no app", func(p *api.Process) { p.App = "" }, slices.Concat(process, seen)},
		{"without a digest", func(p *api.Process) { p.Digest = nil }, slices.Concat(process, seen)},
		{"in no unit", func(p *api.Process) { p.Unit = "" }, slices.Concat(process[:2], measured, seen)},
		{"in a container", func(p *api.Process) {
			p.Container = &evidence.Container{Engine: "podman", Root: *digest, Image: image}
		}, slices.Concat(process, []string{"engine:podman", "root:" + hex(seven), "image:sha256:" + hex(eight)}, measured, seen)},
		{"in a container without an image", func(p *api.Process) {
			p.Container = &evidence.Container{Engine: "podman", Root: *digest}
		}, slices.Concat(process, []string{"engine:podman", "root:" + hex(seven)}, measured, seen)},
		{"its file was replaced", func(p *api.Process) { p.Executable.State = evidence.ExecutableReplaced }, slices.Concat(process, measured)},
		{"not observed", func(p *api.Process) { p.Executable = nil }, slices.Concat(process, measured)},
		{"without the digest of its file", func(p *api.Process) { p.Executable.Digest = nil }, slices.Concat(process, measured)},
	} {
		if got := Selectors(whole(c.change)); !slices.Equal(got, c.want) {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
	}
}

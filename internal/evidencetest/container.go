// SPDX-License-Identifier: Apache-2.0

package evidencetest

import (
	"crypto/sha256"
	"strings"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/pcr"
)

// Container returns the event of the start of a container, of the image that this text makes, as
// an application. An empty name makes it a container of none.
func Container(id, app, content string) pcr.Event {
	digest := func(s string) *evidence.Digest { return new(evidence.Digest(sha256.Sum256([]byte(s)))) }
	c := &pcr.ContainerEvent{
		Engine: "podman", ID: id, App: app, Started: 4000, Cgroup: "/machine.slice/libpod-" + id + ".scope",
		Image: pcr.ContainerImage{Name: "registry.example/" + content, Config: digest("configuration of " + content), Manifest: digest("manifest of " + content)},
		Root:  pcr.ContainerRoot{Digest: *digest("root of " + content), Files: 3, Bytes: 4096},
		Process: pcr.ContainerProcess{
			Args: pcr.ContainerArgs{evidence.Bytes("/usr/bin/ledger"), evidence.Bytes("--serve")}, Cwd: "/", UID: 1000, GID: 1000,
			Environment: pcr.ContainerVariables{"HOSTNAME", "PATH"}, Capabilities: pcr.ContainerWords{"CAP_CHOWN"}, Seccomp: digest("filter"), NoNewPrivileges: true,
		},
		Mounts:     pcr.ContainerMounts{{Destination: "/proc", Type: "proc", Source: "proc", Options: pcr.ContainerWords{"nosuid", "noexec", "nodev"}}},
		Namespaces: pcr.ContainerWords(strings.Fields("cgroup ipc mnt net pid uts")),
	}
	if app != "" {
		c.Declaration = digest("declaration of " + app)
	}
	return pcr.Event{Type: pcr.EventContainer, Container: c}
}

// In makes the caller a process of a container, whose event it adds to the log.
func (r *Recipe) In(e pcr.Event) {
	c := e.Container
	r.Events = append(r.Events, e)
	r.Statement.Caller.Container = &evidence.Container{Engine: c.Engine, ID: c.ID, Started: c.Started, Root: c.Root.Digest, Image: c.Image.Config}
	if c.App != "" {
		s := &r.Statement.Caller
		s.App, s.Unit, s.UnitStarted, s.Invocation, s.Executable = c.App, "", nil, nil, nil
	}
}

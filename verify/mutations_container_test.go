// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/evidencetest"
	"github.com/cvm-agentd/agentd/pcr"
)

// inContainer makes evidence of a caller in a container of an application, and then changes what
// the statement says of it.
func inContainer(app string, change func(*evidence.Caller)) func(*testing.T, *evidencetest.Recipe) {
	return func(_ *testing.T, r *evidencetest.Recipe) {
		r.In(evidencetest.Container("c0ffee", app, "ledger"))
		change(&r.Statement.Caller)
	}
}

// declare has each agent of the log know the declarations of its applications, those that are
// containers too.
func declare(r *evidencetest.Recipe) {
	all := make(map[string]evidence.Digest)
	for _, e := range r.Events {
		if e.App != nil {
			all[e.App.App] = e.App.Declaration
		}
		if e.Container != nil && e.Container.App != "" {
			all[e.Container.App] = *e.Container.Declaration
		}
	}
	var list pcr.Declarations
	for _, name := range slices.Sorted(maps.Keys(all)) {
		list = append(list, pcr.Declaration{App: name, Digest: all[name]})
	}
	for i, e := range r.Events {
		if e.Agent != nil {
			agent := *e.Agent
			agent.Declarations = list
			r.Events[i].Agent = &agent
		}
	}
}

var containerMutations = []mutation{
	{id: LogCaller, name: "another container of the engine", recipe: inContainer("", func(c *evidence.Caller) { c.Container.ID = "decaf" })},
	{id: LogCaller, name: "a container of another engine", recipe: inContainer("", func(c *evidence.Caller) { c.Container.Engine = "docker" })},
	{id: LogCaller, name: "another root file system", recipe: inContainer("", func(c *evidence.Caller) { c.Container.Root[0] ^= 1 })},
	{id: LogCaller, name: "another image", recipe: inContainer("", func(c *evidence.Caller) { c.Container.Image = new(evidence.Digest{1}) })},
	{id: LogCaller, name: "no image", recipe: inContainer("", func(c *evidence.Caller) { c.Container.Image = nil })},
	{id: LogCaller, name: "another start", recipe: inContainer("", func(c *evidence.Caller) { c.Container.Started-- })},
	{id: LogCaller, name: "another application than the container's", recipe: inContainer("ledger", func(c *evidence.Caller) { c.App = "billing" })},
	{id: LogCaller, name: "no application", recipe: func(t *testing.T, r *evidencetest.Recipe) {
		inContainer("ledger", func(c *evidence.Caller) { c.App = "" })(t, r)
		declare(r)
	}},
	{id: LogCaller, name: "covered by a manifest that there is not", recipe: inContainer("ledger", func(c *evidence.Caller) {
		c.Executable = &evidence.Executable{State: evidence.ExecutableFile, Path: "/usr/bin/billing", Digest: new(evidence.Digest{1}), Covered: true}
	})},
	{id: LogCaller, name: "the start before the last one", recipe: func(t *testing.T, r *evidencetest.Recipe) {
		inContainer("ledger", func(*evidence.Caller) {})(t, r)
		again := evidencetest.Container("c0ffee", "ledger", "ledger")
		again.Container.Started = 4500
		r.Events = append(r.Events, again)
	}},
}

// ran adds the start of a container of "ledger" to the log, changed.
func ran(change func(*pcr.ContainerEvent)) func(*testing.T, *evidencetest.Recipe) {
	return func(_ *testing.T, r *evidencetest.Recipe) {
		e := evidencetest.Container("c0ffee", "ledger", "ledger")
		change(e.Container)
		r.Events = append(r.Events, e)
	}
}

// ledger returns a rule that accepts the container of [ran], with more lines.
func ledger(more ...string) string {
	e := evidencetest.Container("c0ffee", "ledger", "ledger").Container
	return fmt.Sprintf("[[container]]\nname = \"ledger\"\nroots = [%q]\n%s\n", e.Root.Digest, strings.Join(more, "\n"))
}

// othersMemory is where podman, docker and containerd keep the /dev/shm of a container or a pod.
var othersMemory = []string{
	"/var/lib/containers/storage/overlay-containers/decade/userdata/shm", "/var/lib/docker/containers/decade/mounts/shm", "/run/containerd/io.containerd.grpc.v1.cri/sandboxes/decade/shm",
}

// containerPolicyMutations are starts that a rule refuses, and policies that refuse a good start.
func containerPolicyMutations() (all []mutation) {
	add := func(id CheckID, name, tables string, change func(*pcr.ContainerEvent)) {
		all = append(all, mutation{id: id, name: name, tables: tables, recipe: ran(change)})
	}
	type c = pcr.ContainerEvent
	as := func(*c) {}
	digest := strings.Repeat("0f", 32)
	list := func(key string, values ...string) string {
		return key + " = [\"" + strings.Join(values, "\", \"") + "\"]"
	}
	image := evidencetest.Container("", "", "ledger").Container.Image.Config.String()

	all = append(all, mutation{id: PolicyContainerPresent, name: "none was started", tables: ledger()})
	add(PolicyContainerPresent, "one of another application", ledger(), func(x *c) { x.App = "other" })
	add(PolicyContainerPresent, "one of no application", ledger(), func(x *c) { x.App, x.Declaration = "", nil })
	add(PolicyContainerRoot, "a changed file", ledger(), func(x *c) { x.Root.Digest[0] ^= 1 })
	add(PolicyContainerRoot, "one that can be written to", ledger("read_only = true"), as)
	add(PolicyContainerRoot, "one that can be mounted again", ledger("read_only = true"), func(x *c) {
		x.Root.ReadOnly, x.Process.Capabilities = true, []string{"CAP_SYS_ADMIN"}
	})
	add(PolicyContainerImage, "another image", "[[container]]\nname = \"ledger\"\n"+list("images", image)+"\n", func(x *c) { x.Image.Config = new(evidence.Digest{1}) })
	add(PolicyContainerImage, "no image", ledger(list("images", image)), func(x *c) { x.Image.Config = nil })
	add(PolicyContainerImage, "another engine", ledger(`engine = "docker"`), as)
	add(PolicyContainerImage, "another declaration", ledger(list("declarations", digest)), as)
	add(PolicyContainerProcess, "another argument", ledger(list("args", "/usr/bin/ledger", "--server")), as)
	add(PolicyContainerProcess, "one argument more", ledger(list("args", "/usr/bin/ledger", "--serve")), func(x *c) { x.Process.Args = append(x.Process.Args, []byte("--debug")) })
	add(PolicyContainerProcess, "no argument", ledger(list("args", "/usr/bin/ledger", "--serve")), func(x *c) { x.Process.Args = x.Process.Args[:1] })
	add(PolicyContainerProcess, "another user", ledger("uid = 0"), as)
	add(PolicyContainerProcess, "another variable", ledger(list("environment", "HOSTNAME", "PATH")), func(x *c) { x.Process.Environment = []string{"HOSTNAME", "LD_PRELOAD", "PATH"} })
	add(PolicyContainerProcess, "values that are not known", ledger(list("environment_hashes", digest)), as)
	add(PolicyContainerProcess, "other values", ledger(list("environment_hashes", digest)), func(x *c) {
		x.Process.Environment, x.Process.EnvironmentHash = []string{pcr.EnvironmentSalt}, new(evidence.Digest{1})
	})
	add(PolicyContainerRights, "another capability", ledger(list("capabilities", "CAP_CHOWN")), func(x *c) { x.Process.Capabilities = append(x.Process.Capabilities, "CAP_SYS_ADMIN") })
	add(PolicyContainerRights, "no filter", ledger(list("seccomp", digest)), func(x *c) { x.Process.Seccomp = nil })
	add(PolicyContainerRights, "another filter", ledger(list("seccomp", digest)), as)
	add(PolicyContainerRights, "every device", ledger(), func(x *c) { x.AllDevices = true })
	add(PolicyContainerRights, "a device", ledger(list("devices", "/dev/fuse")), func(x *c) { x.Devices = []pcr.ContainerDevice{{Path: "/dev/sda", Type: "b", Major: 8}} })
	for i, kind := range []string{"ipc", "mnt", "net", "pid", "uts"} {
		add(PolicyContainerRights, "the machine's "+kind, ledger(), func(x *c) { x.Namespaces = slices.Delete(x.Namespaces, i+1, i+2) })
	}
	add(PolicyContainerRights, "a pod", ledger(list("shared_namespaces", "ipc")), func(x *c) { x.Shared = pcr.ContainerWords{"ipc", "net"} })
	add(PolicyContainerRights, "the machine's cgroup", ledger(list("host_namespaces", "net")), func(x *c) { x.Namespaces = x.Namespaces[1:] })
	for _, m := range []struct {
		name string
		pcr.ContainerMount
	}{
		{"a volume", pcr.ContainerMount{Destination: "/data", Type: "bind"}},
		{"a folder over /proc", pcr.ContainerMount{Destination: "/proc", Type: "bind"}},
		{"a file", pcr.ContainerMount{Destination: "/etc/ld.so.preload", Type: "bind"}},
		{"a folder above one of the engine", pcr.ContainerMount{Destination: "/etc", Type: "tmpfs"}},
		{"one that looks like the engine's", pcr.ContainerMount{Destination: "/etc/hosts/", Type: "bind"}},
		{"the root", pcr.ContainerMount{Destination: "/", Type: "bind"}},
		{"a file of the machine over one of the engine", pcr.ContainerMount{Destination: "/etc/hosts", Type: "bind", Source: "/srv/hosts"}},
		{"a volume over a folder of the engine", pcr.ContainerMount{Destination: "/dev/shm", Type: "bind", Source: "/var/lib/containers/storage/volumes/evil/_data"}},
		{"the machine's /sys, which can be written", pcr.ContainerMount{Destination: "/sys", Type: "sysfs", Options: pcr.ContainerWords{"nosuid"}}},
		{"the machine's /sys, written in two ways", pcr.ContainerMount{Destination: "/sys", Type: "sysfs", Options: pcr.ContainerWords{"ro", "rw"}}},
		{"a file of another container", pcr.ContainerMount{Destination: "/etc/hosts", Type: "bind", Source: "/var/lib/docker/containers/decade/hosts"}},
		{"a folder of another container", pcr.ContainerMount{Destination: "/dev/shm", Type: "bind", Source: "/var/lib/containers/storage/overlay-containers/decade/userdata/shm"}},
		{"a way out of the engine's folder", pcr.ContainerMount{Destination: "/etc/hosts", Type: "bind", Source: "/var/lib/docker/containers/../hosts"}},
	} {
		add(PolicyContainerMounts, m.name, ledger(list("mounts", "/srv")), func(x *c) { x.Mounts = append(x.Mounts, m.ContainerMount) })
	}
	for _, m := range []struct {
		name, source string
		shared       pcr.ContainerWords // without ipc
	}{
		{"podman", othersMemory[0], pcr.ContainerWords{"net", "pid", "uts"}},
		{"docker", othersMemory[1], pcr.ContainerWords{"net"}},
		{"containerd", othersMemory[2], pcr.ContainerWords{"net"}},
		{"containerd, with nothing shared", othersMemory[2], nil},
		{"cri-o", othersMemory[0], nil},
	} {
		add(PolicyContainerMounts, "memory of another container of "+m.name, ledger(list("shared_namespaces", "net", "pid", "uts")), func(x *c) {
			if x.Shared = m.shared; m.name == "cri-o" {
				x.Engine = m.name
			}
			x.Mounts = append(x.Mounts, pcr.ContainerMount{Destination: "/dev/shm", Type: "bind", Source: m.source})
		})
	}
	unlisted := mutation{id: PolicyContainerUnlisted, name: "of no application", root: `unlisted_containers = "refuse"`, recipe: ran(func(x *c) { x.App, x.Declaration = "", nil })}
	other := mutation{id: PolicyContainerUnlisted, name: "of another application", root: `unlisted_containers = "refuse"`, tables: ledger("required = false"), recipe: ran(func(x *c) { x.App = "other" })}
	caller := "\n[caller]\napp = \"ledger\"\ncontainer = \"podman\"\n"
	outside := mutation{id: PolicyCallerContainer, name: "in none", tables: ledger() + caller, recipe: func(t *testing.T, r *evidencetest.Recipe) {
		inContainer("ledger", func(c *evidence.Caller) { c.Container, c.Unit, c.UnitStarted = nil, "ledger.service", new(c.Started) })(t, r)
		ledger := evidencetest.App("ledger", "ledger.service", "", "files")
		r.Events = append(r.Events, ledger)
	}}
	engine := mutation{id: PolicyCallerContainer, name: "of another engine", tables: ledger() + caller, recipe: func(_ *testing.T, r *evidencetest.Recipe) {
		e := evidencetest.Container("c0ffee", "ledger", "ledger")
		e.Container.Engine = "docker"
		r.In(e)
	}}
	return append(all, unlisted, other, outside, engine)
}

// TestContainerAccepted: a start that the rules list is accepted, and so are more of everything
// that they list.
func TestContainerAccepted(t *testing.T) {
	type c = pcr.ContainerEvent
	for name, x := range map[string]struct {
		root, tables string
		change       func(*c)
	}{
		"as it is":     {"", ledger(), func(*c) {}},
		"not required": {"", ledger("required = false"), func(x *c) { x.App = "other" }},
		"each rule":    {`unlisted_containers = "refuse"`, ledger(`args = ["/usr/bin/ledger", "--serve"]`, "uid = 1000", `engine = "podman"`, `environment = ["HOSTNAME", "PATH"]`, `capabilities = ["CAP_CHOWN"]`), func(*c) {}},
		"arguments":    {"", ledger(`args = ["x", "x"]`), func(x *c) { x.Process.Args = pcr.ContainerArgs{[]byte("x"), []byte("x")} }},
		"mounts": {"", ledger(`mounts = ["/data"]`), func(x *c) {
			x.Mounts = append(x.Mounts, pcr.ContainerMount{Destination: "/data", Type: "bind"}, pcr.ContainerMount{Destination: "/dev/console", Type: "bind"})
		}},
		"the engine's": {"", ledger(), func(x *c) {
			const id = "c0ffee"
			for destination, source := range map[string]string{
				"/etc/hosts": "/run/containers/storage/overlay-containers/" + id + "/userdata/hosts", "/etc/resolv.conf": "/var/lib/docker/containers/" + id + "/resolv.conf",
				"/dev/shm": "/var/lib/containers/storage/overlay-containers/" + id + "/userdata/shm", "/etc/hostname": "/var/lib/containerd/io.containerd.grpc.v1.cri/sandboxes/" + id + "/hostname",
			} {
				x.Mounts = append(x.Mounts, pcr.ContainerMount{Destination: destination, Type: "bind", Source: source, Options: pcr.ContainerWords{"rbind", "ro"}})
			}
			x.Mounts = append(x.Mounts, pcr.ContainerMount{Destination: "/dev/shm", Type: "bind", Source: "/var/lib/docker/containers/" + id + "/mounts/shm"},
				pcr.ContainerMount{Destination: "/etc/hosts", Type: "bind", Source: "/var/lib/kubelet/pods/" + id + "/etc-hosts"})
		}},
		"those of an empty system": {"", ledger(), func(x *c) {
			x.Mounts = append(x.Mounts, pcr.ContainerMount{Destination: "/sys", Type: "sysfs", Options: pcr.ContainerWords{"nosuid", "ro"}}, pcr.ContainerMount{Destination: "/run", Type: "tmpfs"})
		}},
		"the engine's, of the pod": {"", ledger(`shared_namespaces = ["net"]`), func(x *c) {
			x.Shared = pcr.ContainerWords{"net"}
			x.Mounts = append(x.Mounts, pcr.ContainerMount{Destination: "/etc/hosts", Type: "bind", Source: "/run/containers/storage/overlay-containers/decade/userdata/hosts"})
		}},
		"the engine's, of the pod of CRI-O": {"", ledger(), func(x *c) {
			x.Engine = "cri-o"
			x.Mounts = append(x.Mounts, pcr.ContainerMount{Destination: "/etc/hosts", Type: "bind", Source: "/run/containers/storage/overlay-containers/decade/userdata/hosts"})
		}},
		"memory of the pod": {"", ledger(`shared_namespaces = ["ipc"]`), func(x *c) {
			x.Shared = pcr.ContainerWords{"ipc"}
			for _, source := range othersMemory {
				x.Mounts = append(x.Mounts, pcr.ContainerMount{Destination: "/dev/shm", Type: "bind", Source: source})
			}
		}},
		"memory of a pod's first container": {"", ledger(), func(x *c) {
			x.Mounts = append(x.Mounts, pcr.ContainerMount{Destination: "/dev/shm", Type: "bind", Source: "/run/containerd/io.containerd.grpc.v1.cri/sandboxes/c0ffee/shm"})
		}},
		"every device":   {"", ledger("all_devices = true", `devices = ["/dev/sda"]`), func(x *c) { x.AllDevices, x.Devices = true, []pcr.ContainerDevice{{Path: "/dev/sda", Type: "b"}} }},
		"the machine's":  {"", ledger(`host_namespaces = ["net", "pid"]`), func(x *c) { x.Namespaces = []string{"cgroup", "ipc", "mnt", "uts"} }},
		"cgroup alone":   {"", ledger(), func(x *c) { x.Namespaces = x.Namespaces[1:] }},
		"a pod":          {"", ledger(`shared_namespaces = ["ipc", "net"]`), func(x *c) { x.Shared = pcr.ContainerWords{"ipc", "net"} }},
		"cannot write":   {"", ledger("read_only = true"), func(x *c) { x.Root.ReadOnly = true }},
		"no application": {"", ledger("required = false"), func(x *c) { x.App, x.Declaration = "", nil }},
	} {
		m := mutation{root: x.root, tables: x.tables, recipe: ran(x.change)}
		if a := m.run(t, nil); a.Verdict != Pass {
			t.Errorf("%s: %s", name, explain(a))
		}
	}
	caller := mutation{tables: ledger() + "\n[caller]\napp = \"ledger\"\ncontainer = \"podman\"\n", recipe: inContainer("ledger", func(*evidence.Caller) {})}
	if a := caller.run(t, nil); a.Verdict != Pass {
		t.Errorf("the caller: %s", explain(a))
	}
}

// TestContainerPolicyRefused: rules about containers that contradict themselves are refused.
func TestContainerPolicyRefused(t *testing.T) {
	for tables, want := range map[string]string{
		"[[container]]\nname = \"ledger\"\n":                                                 "roots or images",
		ledger() + ledger():                                                                  "listed twice",
		ledger("args = []"):                                                                  "empty",
		ledger("mounts = [\"data\"]"):                                                        "absolute",
		ledger("host_namespaces = [\"mnt\"]"):                                                "not one of",
		ledger() + app("ledger", "", "1"):                                                    "either files or a container",
		"[caller]\napp = \"ledger\"\ncontainer = \"podman\"\n":                               "[[container]]",
		"[caller]\ncontainer = \"podman\"\n":                                                 "[[container]]",
		ledger() + "[caller]\napp = \"ledger\"\nunit = \"a.service\"\n":                      "caller.container",
		ledger(`engine = "docker"`) + "[caller]\napp = \"ledger\"\ncontainer = \"podman\"\n": "another engine",
	} {
		if _, err := ParsePolicy([]byte(makePolicy("", tables))); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", tables, err, want)
		}
	}
}

// TestCallerInWithdrawnContainer: a container whose declaration was withdrawn while it ran is not an
// application any more, and the agent says so: the log does not contradict that.
func TestCallerInWithdrawnContainer(t *testing.T) {
	none := func(c *evidence.Caller) { c.App = "" }
	withdrawn := mutation{recipe: inContainer("ledger", none)} // no agent of the log declares it
	if a := withdrawn.run(t, nil); a.Verdict != Pass {
		t.Error(explain(a))
	}
	wanted := mutation{tables: ledger() + "\n[caller]\napp = \"ledger\"\ncontainer = \"podman\"\n", recipe: inContainer("ledger", none)}
	if a := wanted.run(t, nil); a.Verdict == Pass {
		t.Error("it is taken for the application")
	}
}

// TestCallerInContainer: a caller in a container that the log records is accepted, whether the
// container is an application itself, or one runs in it by its unit.
func TestCallerInContainer(t *testing.T) {
	for name, app := range map[string]string{"an application": "ledger", "in the unit of one": ""} {
		m := mutation{recipe: inContainer(app, func(*evidence.Caller) {})}
		a := m.run(t, nil)
		if a.Verdict != Pass {
			t.Errorf("%s: %s", name, explain(a))
		}
		c, err := a.Claims()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if len(c.Log.Containers) != 1 || c.Log.Containers[0].ID != "c0ffee" || c.Log.Containers[0].Record != 3 {
			t.Errorf("%s: the log has %+v", name, c.Log.Containers)
		}
	}
}

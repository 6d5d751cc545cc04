// SPDX-License-Identifier: Apache-2.0

package rule

import (
	"cmp"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/pcr"
	"github.com/cvm-agentd/agentd/verify/internal/check"
	"github.com/cvm-agentd/agentd/verify/internal/replay"
)

// ContainerRules are rules about the containers in the log.
type ContainerRules struct {
	quiet
	UnlistedContainers Choice      `toml:"unlisted_containers,omitempty" value:"one allow refuse" default:"\"allow\"" doc:"|refuse| refuses logs with containers that are of no application which a |[[container]]| lists. Containers that the agent did not record are in no log at all: those of engines that do not ask it and, unless the agent was told |measurement.containers = \"all\"|, those of no declared application"`
	Containers         []Container `toml:"container,omitempty"`

	byName map[string]*Container // in a compiled policy
}

// Container is one [[container]]: an application whose containers are compared with lists.
type Container struct {
	Name              string   `toml:"name" value:"name" default:"required" doc:"as in the agent's declaration, of the application that is a container"`
	Engine            string   `toml:"engine,omitempty" value:"one podman docker containerd cri-o" default:"any" doc:"engine that must run it"`
	Roots             []string `toml:"roots,omitempty" value:"hex 32" default:"any" doc:"digests of root file systems that are acceptable, 32 bytes each, as |agentctl log| prints them. This or |images| must be given"`
	Images            []string `toml:"images,omitempty" value:"hex 32" default:"any" doc:"digests of configurations that are acceptable, which engines call image ids: only the engine says which image it is. |roots| is what the agent measured"`
	Declarations      []string `toml:"declarations,omitempty" value:"hex 32" default:"any" doc:"digests of declarations that are acceptable, SHA-256 of the file"`
	Args              []string `toml:"args,omitempty" value:"later" default:"any" doc:"program and arguments, exactly these. Here a value may occur twice"`
	UID               *int64   `toml:"uid,omitempty" value:"range 0 4294967294" default:"any" doc:"user id in the container that its first process has"`
	Environment       []string `toml:"environment,omitempty" value:"name" default:"any" doc:"names of environment variables that may be there. Some change what a program does, such as |LD_PRELOAD|"`
	EnvironmentHashes []string `toml:"environment_hashes,omitempty" value:"hex 32" default:"any" doc:"digests of environments that are acceptable. There is one only if the environment has |AGENTD_ENVIRONMENT_SALT|"`
	Capabilities      []string `toml:"capabilities,omitempty" value:"name" default:"any" doc:"capabilities that it may have, as |CAP_CHOWN|"`
	Seccomp           []string `toml:"seccomp,omitempty" value:"hex 32" default:"any" doc:"digests of seccomp filters, one of which it must have"`
	Mounts            []string `toml:"mounts,omitempty" value:"name" default:"none" doc:"destinations of mounts that it may have, in addition to those of every container. **What is in a mount is not measured**, so a program there goes unnoticed"`
	Devices           []string `toml:"devices,omitempty" value:"name" default:"none" doc:"paths of device nodes that it may have"`
	HostNamespaces    []string `toml:"host_namespaces,omitempty" value:"one cgroup ipc net pid uts" default:"\"cgroup\"" doc:"kinds of namespaces that it may share with the machine: with |net|, for example, it has the machine's network. It never has to have |time| and |user|"`
	SharedNamespaces  []string `toml:"shared_namespaces,omitempty" value:"one cgroup ipc net pid uts" default:"none" doc:"kinds of namespaces of its own in which processes of others may be when it starts, as in a pod: with |net|, for example, they have its network, localhost included. Logs of agents that did not look say nothing of that"`
	AllDevices        bool     `toml:"all_devices,omitempty" default:"false" doc:"accept containers that may use every device of the machine, as privileged ones may"`
	ReadOnly          bool     `toml:"read_only,omitempty" default:"false" doc:"the root file system must be one that the container cannot write to, and cannot mount again to do so, as with |CAP_SYS_ADMIN|: it then is what was measured for as long as it runs"`
	Required          *bool    `toml:"required,omitempty" default:"true" doc:"refuse logs in which none of it was started"`

	sets containerSets // in a compiled policy
}

// containerSets are the lists of a rule: the author of a log chooses how often they are asked.
type containerSets struct {
	roots, images, declarations, environment, hashes, capabilities, seccomp, mounts, devices, namespaces, shared map[string]bool
}

var containerChecks = []check.Definition{
	{ID: "policy.container-present", Class: check.Policy, Ground: check.OnHistory, Checks: "the log names a container of every application that the policy requires as one", Stops: "a required container that was not measured"},
	{ID: "policy.container-root", Class: check.Policy, Ground: check.OnHistory, Checks: "every root file system that the log records for a container of an application is one that the policy lists, if the policy lists any, and cannot be written to if the policy asks for that", Stops: "a changed layer in the engine's store, or a folder in the place of an image"},
	{ID: "policy.container-image", Class: check.Policy, Ground: check.OnHistory, Checks: "the log records for every container of an application an engine, an image and a declaration that the policy lists, if the policy lists any", Stops: "another image under the same name"},
	{ID: "policy.container-process", Class: check.Policy, Ground: check.OnHistory, Checks: "the log records for every container of an application the arguments, the user and the environment that the policy lists, if the policy lists any", Stops: "a genuine image that is started as another program, or in another environment"},
	{ID: "policy.container-rights", Class: check.Policy, Ground: check.OnHistory, Checks: "the log records for every container of an application no capabilities, devices and namespaces of the machine, and no namespaces that it shares with others, but those that the policy lists, and a seccomp filter that it lists, if the policy lists any", Stops: "a container that can do more than it needs to, such as a privileged one"},
	{ID: "policy.container-mounts", Class: check.Policy, Ground: check.OnHistory, Checks: "the log records for every container of an application no mounts but those of every container and those that the policy lists", Stops: "programs and configuration in a volume, which nothing measures"},
	{ID: "policy.container-unlisted", Class: check.Policy, Ground: check.OnHistory, Checks: "the log names no container of an application that the policy does not list, or of none, if the policy refuses those", Stops: "a further container in addition to the expected ones"},
}

// ownMounts are destinations over which every engine mounts, with the types that hide nothing of
// the machine there. Engines bind files and a folder of their own to some.
var ownMounts = map[string]string{
	"/proc": "proc", "/sys": "sysfs", "/dev": "tmpfs", "/dev/pts": "devpts", "/dev/mqueue": "mqueue", "/dev/shm": "tmpfs shm bind", "/sys/fs/cgroup": "cgroup cgroup2", "/run": "tmpfs",
	"/dev/console": "bind", "/etc/hosts": "bind", "/etc/hostname": "bind", "/etc/resolv.conf": "bind", "/run/.containerenv": "bind",
}

// ownSources are where engines keep what they bind over these destinations. ID is the folder of the
// container, POD that of the pod that it is in, which has an id of its own. Volumes are elsewhere.
var ownSources = []string{
	"/run/containers/storage/*-containers/ID/userdata/*", "/var/lib/containers/storage/*-containers/ID/userdata/*", // podman, CRI-O
	"/var/lib/docker/containers/ID/*", "/var/lib/docker/containers/ID/mounts/shm",
	"/run/containerd/io.containerd.grpc.v1.cri/sandboxes/POD/*", "/var/lib/containerd/io.containerd.grpc.v1.cri/sandboxes/POD/*",
	"/var/lib/kubelet/pods/*/etc-hosts",
}

// isOwnMount reports whether a mount is one that each container has. Who can write to /sys can have the
// machine start programs, so only one that cannot be written counts. A file of the engine counts if the
// engine made it for this container, or for the pod that it is in: another container may write into its own.
// /dev/shm is memory that programs trust as they trust the rest of their IPC namespace. So that of another
// counts only if processes of others are in this namespace, not if they have the network alone.
func isOwnMount(c *replay.Container, m *pcr.ContainerMount) bool {
	if !slices.Contains(strings.Fields(ownMounts[m.Destination]), m.Type) {
		return false
	}
	if m.Type == "sysfs" {
		return slices.Contains(m.Options, "ro") && !slices.Contains(m.Options, "rw")
	}
	if m.Type != "bind" || m.Destination == "/dev/console" {
		return true
	}
	folder, pod := c.ID, "*"
	if len(c.Shared) > 0 || c.Engine == "cri-o" { // the folder is that of the pod, or of who else has the namespace
		folder = "*"
	}
	if m.Destination == "/dev/shm" && !slices.Contains(c.Shared, "ipc") {
		folder, pod = c.ID, c.ID
	}
	put := strings.NewReplacer("ID", folder, "POD", pod)
	return path.Clean(m.Source) == m.Source && slices.ContainsFunc(ownSources, func(pattern string) bool {
		ok, err := path.Match(put.Replace(pattern), m.Source)
		return ok && err == nil
	})
}

func (r *ContainerRules) values(f *faults) {
	f.twice("container[%d].name", len(r.Containers), func(i int) string { return r.Containers[i].Name })
	for i := range r.Containers {
		c, key := &r.Containers[i], fmt.Sprintf("container[%d]", i)
		f.failIf(len(c.Roots)+len(c.Images) == 0, key, "want roots or images: without digests any image passes")
		f.failIf(f.given(key+".args", c.Args != nil) && len(c.Args) == 0, key+".args", "the list is empty: leave the key out if anything is acceptable")
		for j, m := range c.Mounts {
			f.failIf(!strings.HasPrefix(m, "/"), fmt.Sprintf("%s.mounts[%d]", key, j), "%q is not an absolute path", m)
		}
	}
}

func (r *ContainerRules) conflicts(p *Policy, f *faults) {
	p.needs(f, "container", len(r.Containers) > 0)
	p.needs(f, "unlisted_containers", r.UnlistedContainers == Refuse)
	for i := range r.Containers {
		f.failIf(p.rules()[r.Containers[i].Name] != nil, fmt.Sprintf("container[%d].name", i), "an [[app]] has this name: an application is either files or a container")
	}
}

func (r *ContainerRules) compile() error {
	r.byName = make(map[string]*Container)
	for i := range r.Containers {
		c := &r.Containers[i]
		r.byName[c.Name] = c
		c.sets = containerSets{
			roots: set(c.Roots), images: set(c.Images), declarations: set(c.Declarations), environment: set(c.Environment), hashes: set(c.EnvironmentHashes),
			capabilities: set(c.Capabilities), seccomp: set(c.Seccomp), mounts: set(c.Mounts), devices: set(c.Devices), namespaces: set(listOr(c.HostNamespaces, "cgroup")), shared: set(c.SharedNamespaces),
		}
	}
	return nil
}

// container returns the rule of an application, nil if there is none.
func (r *ContainerRules) container(name string) *Container {
	if r.byName != nil {
		return r.byName[name]
	}
	for i := range r.Containers {
		if r.Containers[i].Name == name && name != "" {
			return &r.Containers[i]
		}
	}
	return nil
}

func (c *Container) required() bool { return c.Required == nil || *c.Required }

// judge judges every start since boot: a container that was tampered with may have ended.
func (r *ContainerRules) judge(_ *Policy, s *Subject, f *check.Findings) {
	ids := make([]check.ID, len(containerChecks))
	for i, d := range containerChecks {
		ids[i] = d.ID
	}
	if noLog(f, s.LogState, ids...) {
		return
	}
	started := make(map[string]bool)
	var unlisted, absent []string
	x := new(containerFindings)
	for i := range s.Log.Containers {
		m := &s.Log.Containers[i]
		if c := r.container(m.App); c != nil {
			started[m.App] = true
			x.add(c, m)
		} else {
			unlisted = append(unlisted, fmt.Sprintf("record %d: %q of %s, application %q", m.Record, m.ID, m.Engine, m.App))
		}
	}
	for i := range r.Containers {
		if c := &r.Containers[i]; c.required() && !started[c.Name] {
			absent = append(absent, strconv.Quote(c.Name))
		}
	}
	if len(r.Containers) == 0 {
		skip(f, "the policy lists no container", ids[:6]...)
	} else {
		f.Decide(ids[0], len(absent) == 0, "every required container", "without "+firstOf(absent), "the log names no container of a required application: %s", firstOf(absent))
		x.decide(f)
	}
	if !f.SkipIf(r.UnlistedContainers != Refuse, ids[6], "the policy does not refuse further containers; the log names: %s", cmp.Or(firstOf(unlisted), "none")) {
		f.Decide(ids[6], len(unlisted) == 0, "only containers that the policy lists", firstOf(unlisted), "the log names a container that the policy does not list")
	}
}

// containerFindings are what is wrong with containers that the policy lists.
type containerFindings struct{ roots, images, processes, rights, mounts []string }

func (x *containerFindings) decide(f *check.Findings) {
	f.Decide("policy.container-root", len(x.roots) == 0, "only root file systems that the policy lists", firstOf(x.roots), "the log records a root file system of a container that the policy does not accept")
	f.Decide("policy.container-image", len(x.images) == 0, "only images that the policy lists", firstOf(x.images), "the log records an image, engine or declaration of a container that the policy does not list")
	f.Decide("policy.container-process", len(x.processes) == 0, "arguments, user and environment that the policy lists", firstOf(x.processes), "a container was started in another way than the policy lists")
	f.Decide("policy.container-rights", len(x.rights) == 0, "no more rights than the policy lists", firstOf(x.rights), "a container has rights that the policy does not list")
	f.Decide("policy.container-mounts", len(x.mounts) == 0, "no mounts but those that the policy lists", firstOf(x.mounts), "something that is not measured is mounted into a container")
}

// add compares one start with its rule.
func (x *containerFindings) add(c *Container, m *replay.Container) {
	found := func(list *[]string, wrong bool, format string, a ...any) {
		if wrong {
			*list = append(*list, fmt.Sprintf("record %d: %q %s", m.Record, c.Name, fmt.Sprintf(format, a...)))
		}
	}
	root, p, s := m.Root.Digest.String(), &m.Process, &c.sets
	found(&x.roots, len(s.roots) > 0 && !s.roots[root], "has the root file system %s", root)
	found(&x.roots, c.ReadOnly && !m.Root.ReadOnly, "can write to its root file system")
	found(&x.roots, c.ReadOnly && m.Root.ReadOnly && slices.Contains(p.Capabilities, "CAP_SYS_ADMIN"), "may mount its root file system again, and write to it then")
	found(&x.images, c.Engine != "" && c.Engine != m.Engine, "runs under %s", m.Engine)
	found(&x.images, !among(s.images, m.Image.Config), "is of the image %s", digestOr(m.Image.Config))
	found(&x.images, !among(s.declarations, m.Declaration), "has the declaration %s", digestOr(m.Declaration))
	found(&x.processes, c.Args != nil && !sameArgs(c.Args, p.Args), "runs %s", argsOf(p.Args))
	found(&x.processes, c.UID != nil && *c.UID != int64(p.UID), "runs as uid %d", p.UID)
	found(&x.processes, !among(s.hashes, p.EnvironmentHash), "has the environment %s", digestOr(p.EnvironmentHash))
	for _, name := range p.Environment {
		found(&x.processes, len(s.environment) > 0 && !s.environment[name], "has the variable %q", name)
	}
	for _, name := range p.Capabilities {
		found(&x.rights, len(s.capabilities) > 0 && !s.capabilities[name], "has %s", name)
	}
	found(&x.rights, !among(s.seccomp, p.Seccomp), "has the seccomp filter %s", digestOr(p.Seccomp))
	found(&x.rights, m.AllDevices && !c.AllDevices, "may use every device")
	for _, d := range m.Devices {
		found(&x.rights, !s.devices[d.Path], "has the device %q", d.Path)
	}
	for _, kind := range judgedKinds {
		found(&x.rights, m.Host(kind) && !s.namespaces[kind], "shares the namespace %s with the machine", kind)
	}
	for _, kind := range m.Shared {
		found(&x.rights, !s.shared[kind], "shares its namespace %s with processes of others", kind)
	}
	for i := range m.Mounts {
		found(&x.mounts, !isOwnMount(m, &m.Mounts[i]) && !s.mounts[m.Mounts[i].Destination], "has %s mounted on %q", m.Mounts[i].Type, m.Mounts[i].Destination)
	}
}

// judgedKinds are the kinds of namespaces that count: most containers share time and user with the
// machine.
var judgedKinds = []string{"cgroup", "ipc", "mnt", "net", "pid", "uts"}

// among reports whether a digest is in a list, if there is one.
func among(list map[string]bool, d *evidence.Digest) bool {
	return len(list) == 0 || d != nil && list[d.String()]
}

func digestOr(d *evidence.Digest) string {
	if d == nil {
		return "(none)"
	}
	return d.String()
}

func sameArgs(want []string, got pcr.ContainerArgs) bool {
	return slices.EqualFunc(want, got, func(a string, b evidence.Bytes) bool { return a == string(b) })
}

// argsOf spells arguments for people: they are any bytes, of any length.
func argsOf(args pcr.ContainerArgs) string {
	const most = 200
	var out strings.Builder
	for i, a := range args {
		if out.Len() > most {
			fmt.Fprintf(&out, " and %d more", len(args)-i)
			break
		}
		out.WriteString(" " + strconv.QuoteToASCII(string(a[:min(len(a), most)])))
	}
	return strings.TrimSpace(out.String())
}

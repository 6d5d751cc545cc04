// SPDX-License-Identifier: Apache-2.0

package pcr_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/pcr"
)

// container returns the event of the example, changed.
func container(change func(*pcr.ContainerEvent)) *pcr.Event {
	c := exampleContainer(func(s string) evidence.Digest { return sha256.Sum256([]byte(s)) })
	change(c)
	return &pcr.Event{Type: pcr.EventContainer, Time: 1, Container: c}
}

// TestContainerMembers: each member of the event of a container has its rule.
func TestContainerMembers(t *testing.T) {
	type c = pcr.ContainerEvent
	for name, change := range map[string]func(*c){
		"as it is":       func(*c) {},
		"no application": func(x *c) { x.App, x.Declaration = "", nil },
		"no image":       func(x *c) { x.Image = pcr.ContainerImage{} },
		"any bytes":      func(x *c) { x.Process.Args[1] = []byte("\x1b\n\xff") },
		"empty argument": func(x *c) { x.Process.Args[1] = []byte{} },
		"nothing more": func(x *c) {
			x.Mounts, x.Devices, x.Namespaces, x.Process.Groups, x.Process.Capabilities = nil, nil, nil, nil, nil
		},
		"in a pod":   func(x *c) { x.Shared = pcr.ContainerWords{"ipc", "net", "uts"} },
		"privileged": func(x *c) { x.AllDevices, x.Process.Seccomp, x.Process.NoNewPrivileges = true, nil, false },
	} {
		b, err := container(change).Encode()
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if e, err := pcr.ParseEvent(b); err != nil || e.Container == nil {
			t.Errorf("%s: not read again: %v", name, err)
		}
	}
	long := strings.Repeat("/a", evidence.MaxPath/2+1)
	for want, change := range map[string]func(*c){
		"container.engine":         func(x *c) { x.Engine = "lxc" },
		"container.id":             func(x *c) { x.ID = "../x" },
		"id \"\"":                  func(x *c) { x.ID = "" },
		"id \".x\"":                func(x *c) { x.ID = ".x" },
		"container.app":            func(x *c) { x.App = "a\x1b" },
		"container.declaration":    func(x *c) { x.Declaration = nil },
		"exactly if container.app": func(x *c) { x.App = "" },
		"started":                  func(x *c) { x.Started = 1 << 53 },
		"cgroup":                   func(x *c) { x.Cgroup = "a" },
		"cgroup: size":             func(x *c) { x.Cgroup = long },
		"image.name":               func(x *c) { x.Image.Name = strings.Repeat("n", 257) },
		"root.files":               func(x *c) { x.Root.Files = pcr.MaxRootFiles + 1 },
		"above 2^53":               func(x *c) { x.Root.Bytes = math.MaxUint64 },
		"args is empty":            func(x *c) { x.Process.Args = nil },
		"args[1]":                  func(x *c) { x.Process.Args[1] = []byte{0} },
		"args[0]":                  func(x *c) { x.Process.Args[0] = make([]byte, 128<<10+1) },
		"process.cwd":              func(x *c) { x.Process.Cwd = "srv" },
		"process.uid":              func(x *c) { x.Process.UID = math.MaxUint32 },
		"or gid":                   func(x *c) { x.Process.GID = math.MaxUint32 },
		"groups[1]":                func(x *c) { x.Process.Groups = pcr.ContainerGroups{4, 4} },
		"groups[0]":                func(x *c) { x.Process.Groups = pcr.ContainerGroups{math.MaxUint32} },
		"environment[1]":           func(x *c) { x.Process.Environment = pcr.ContainerVariables{"B", "A"} },
		"environment[0]":           func(x *c) { x.Process.Environment[0] = "" },
		"environment[2]":           func(x *c) { x.Process.Environment[2] = "P=1" },
		"could be guessed":         func(x *c) { x.Process.Environment = x.Process.Environment[1:] },
		"capabilities[0]":          func(x *c) { x.Process.Capabilities[0] = "chown" },
		"capabilities[1]":          func(x *c) { x.Process.Capabilities[1] = "CAP_A" },
		"CAP_a":                    func(x *c) { x.Process.Capabilities[1] = "CAP_a" },
		"\"CAP_\"":                 func(x *c) { x.Process.Capabilities[0] = "CAP_" },
		"mounts[1]: destination":   func(x *c) { x.Mounts[1].Destination = "data" },
		"mounts[0]: type":          func(x *c) { x.Mounts[0].Type = "" },
		"mounts[0]: source":        func(x *c) { x.Mounts[0].Source = "\u202e" },
		"mounts[1]: options[0]":    func(x *c) { x.Mounts[1].Options[0] = "" },
		"devices[0]: path":         func(x *c) { x.Devices[0].Path = "" },
		"devices[0]: type":         func(x *c) { x.Devices[0].Type = "x" },
		"namespaces[0]":            func(x *c) { x.Namespaces[0] = "vrf" },
		"shared[0]":                func(x *c) { x.Namespaces, x.Shared = pcr.ContainerWords{"mnt"}, pcr.ContainerWords{"net"} },
		"shared[1]":                func(x *c) { x.Shared = pcr.ContainerWords{"net", "ipc"} },
		"namespaces[1]":            func(x *c) { x.Namespaces[1] = "cgroup" },
		"want 1 to 262144": func(x *c) {
			x.Process.Args = make(pcr.ContainerArgs, 2)
			x.Process.Args[0] = bytes.Repeat([]byte{1}, 128<<10)
			x.Process.Args[1] = x.Process.Args[0]
		},
	} {
		if _, err := container(change).Encode(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	for _, engine := range evidence.Engines {
		if _, err := container(func(x *c) { x.Engine = engine }).Encode(); err != nil {
			t.Error(err)
		}
	}
	if b, err := container(func(*c) {}).Encode(); err != nil || bytes.Contains(b, []byte("a secret")) {
		t.Errorf("%s contains the value of a variable, %v", b, err)
	}
	if x := container(func(*c) {}).Container; x.Host("net") || !x.Host("user") {
		t.Error("a namespace of its own is taken for the machine's, or the other way round")
	}
}

// TestContainerLists: each list stops at its cap, and a number that is not there is not 0.
func TestContainerLists(t *testing.T) {
	b, err := container(func(*pcr.ContainerEvent) {}).Encode()
	if err != nil {
		t.Fatal(err)
	}
	for member, c := range map[string]struct {
		element string
		most    int
	}{
		"args": {`""`, 4096}, "groups": {`1`, 1024}, "environment": {`"A"`, 4096}, "capabilities": {`"CAP_A"`, 64},
		"mounts": {`{}`, 1024}, "devices": {`{}`, 1024}, "namespaces": {`"net"`, 64}, "options": {`"x"`, 64},
	} {
		begin := bytes.Index(b, []byte(`"`+member+`":[`)) + len(member) + 4
		list := strings.TrimSuffix(strings.Repeat(c.element+",", c.most+1), ",")
		event := slices.Concat(b[:begin], []byte(list), b[begin+bytes.IndexByte(b[begin:], ']'):])
		if member == "mounts" || member == "devices" {
			event = slices.Concat(b[:begin], []byte(list+"]}}"))
		}
		if _, err := pcr.ParseEvent(event); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("size %d", c.most+1)) {
			t.Errorf("%s: got %v", member, err)
		}
	}
	for _, member := range []string{`"uid":1000,`, `"gid":1000,`, `"started":64210,`, `"files":412,`, `,"minor":229`} {
		if _, err := pcr.ParseEvent(bytes.Replace(b, []byte(member), nil, 1)); err == nil {
			t.Errorf("read without %s", member)
		}
	}
}

// TestContainerEnvironment: a digest is made only of an environment that cannot be guessed, and
// covers every value but the name of the host.
func TestContainerEnvironment(t *testing.T) {
	salt := pcr.EnvironmentSalt + "=" + strings.Repeat("5", 32)
	names, digest := pcr.ContainerEnvironment([]string{"B=2", "A=1", "A=3", "C", "HOSTNAME=h"}, "h")
	if digest != nil || !slices.Equal(names, []string{"A", "B", "C", "HOSTNAME"}) {
		t.Errorf("got %q, %v", names, digest)
	}
	if _, digest := pcr.ContainerEnvironment([]string{salt[:len(salt)-1]}, ""); digest != nil {
		t.Error("a digest with a salt that is too short")
	}
	sum := func(hostname string, variables ...string) evidence.Digest {
		_, d := pcr.ContainerEnvironment(append(variables, salt), hostname)
		if d == nil {
			t.Fatalf("%q: no digest", variables)
		}
		return *d
	}
	same := sum("h", "A=1", "B=2")
	if want := evidence.Sum256("agentd/environment/1", []byte("A=1"), []byte(salt), []byte("B=2")); same != want {
		t.Errorf("digest %s, want %s", same, want)
	}
	for name, got := range map[string]evidence.Digest{
		"another order": sum("h", "B=2", "A=1"), "name of the host": sum("h", "A=1", "HOSTNAME=h", "B=2"),
	} {
		if got != same {
			t.Errorf("%s: another digest", name)
		}
	}
	for name, got := range map[string]evidence.Digest{
		"another value": sum("h", "A=1", "B=3"), "one more": sum("h", "A=1", "B=2", "C=3"), "one less": sum("h", "A=1"),
		"twice": sum("h", "A=1", "A=1", "B=2"), "another host": sum("h", "A=1", "B=2", "HOSTNAME=i"),
		"a host without name": sum("", "A=1", "B=2", "HOSTNAME="), "a boundary": sum("h", "A=1B=2"),
	} {
		if got == same {
			t.Errorf("%s: the same digest", name)
		}
	}
}

// TestManifestHash: entry by entry, the digest is that of the manifest.
func TestManifestHash(t *testing.T) {
	entries := []pcr.ManifestEntry{
		{Path: "/a", Mode: 0o100755, Size: 1, Digest: evidence.Digest{1}},
		{Path: "/b", Mode: 0o120777, Size: 1 << 40, Digest: evidence.Digest{2}},
	}
	h := pcr.NewManifestHash()
	for i := range entries {
		if h.Digest() != pcr.ManifestDigest(entries[:i]) {
			t.Errorf("after %d entries: another digest", i)
		}
		h.Add(&entries[i])
	}
	want := evidence.Sum256("agentd/manifest/1",
		[]byte("/a"), []byte{0, 0, 0x81, 0xed}, []byte{0, 0, 0, 0, 0, 0, 0, 1}, entries[0].Digest[:],
		[]byte("/b"), []byte{0, 0, 0xa1, 0xff}, []byte{0, 0, 1, 0, 0, 0, 0, 0}, entries[1].Digest[:])
	if got := h.Digest(); got != want || got != pcr.ManifestDigest(entries) {
		t.Errorf("digest %s, want %s", got, want)
	}
}

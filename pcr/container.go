// SPDX-License-Identifier: Apache-2.0

package pcr

import (
	"bytes"
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/strictjson"
	"github.com/cvm-agentd/agentd/internal/text"
)

// Caps on the event of a container. A container that does not fit is not recorded, and so must
// not start.
const (
	MaxContainer = 256 << 10 // bytes of the JSON of its event

	maxArgs      = 4096 // arguments
	maxVariables = 4096 // environment variables
	maxGroups    = 1024 // further groups
	maxWords     = 64   // capabilities, options of a mount, kinds of namespaces
	maxMounts    = 1024
	maxDevices   = 1024
)

// ContainerEvent is one container, as the agent found it before its first process ran: an image
// on disk, and what the engine was told to do with it.
type ContainerEvent struct {
	Engine      string           `json:"engine"`               // one of evidence.Engines
	ID          string           `json:"id"`                   // as the engine names it: see evidence.CheckContainerID
	App         string           `json:"app,omitzero"`         // declared application that it is; empty if none
	Declaration *evidence.Digest `json:"declaration,omitzero"` // SHA-256 of the declaration of App; nil exactly if App is empty
	Started     uint64           `json:"started"`              // when its first process started: CLOCK_BOOTTIME in milliseconds, rounded down to 10
	Cgroup      string           `json:"cgroup"`               // absolute path in the hierarchy of the agent, 1 to 4096 bytes

	Image   ContainerImage   `json:"image,omitzero"` // as the engine says; zero if it says nothing
	Root    ContainerRoot    `json:"root"`           // root file system, as it was mounted
	Process ContainerProcess `json:"process"`        // first process, as the engine was told

	Mounts     ContainerMounts  `json:"mounts,omitempty"`     // in the order in which they are mounted: nothing in them is covered
	Devices    ContainerDevices `json:"devices,omitempty"`    // in the engine's order
	AllDevices bool             `json:"allDevices,omitzero"`  // the container may use every device of the machine
	Namespaces ContainerWords   `json:"namespaces,omitempty"` // kinds of namespaces that it does not share with the machine, ascending: see namespaceKinds
	Shared     ContainerWords   `json:"shared,omitempty"`     // those of them in which processes of others were at its start, ascending; unknown to agents of before
}

// ContainerImage is the image of a container as its engine names it. No digest here is of bytes
// that the agent read: [ContainerRoot] is.
type ContainerImage struct {
	Name     string           `json:"name,omitzero"`     // as it was asked for, 1 to 256 bytes; empty if not known
	Config   *evidence.Digest `json:"config,omitzero"`   // SHA-256 of its configuration, which engines call image id; nil if not known
	Manifest *evidence.Digest `json:"manifest,omitzero"` // SHA-256 of its manifest; nil if not known
}

// ContainerRoot is the root file system of a container. docs/measurements.md says which files
// count.
type ContainerRoot struct {
	Digest   evidence.Digest `json:"digest"`            // as ManifestDigest, over all files
	Files    uint64          `json:"files"`             // number of files in it
	Bytes    uint64          `json:"bytes"`             // bytes that were hashed: of files and of the targets of links
	ReadOnly bool            `json:"readOnly,omitzero"` // the container cannot write to it
}

// ContainerProcess is the first process of a container.
type ContainerProcess struct {
	Args            ContainerArgs      `json:"args"`                     // 1 to 4096, each up to 128 KiB, any bytes but zero
	Cwd             string             `json:"cwd"`                      // absolute path in the container
	UID             uint32             `json:"uid"`                      // in the container's user namespace
	GID             uint32             `json:"gid"`                      // likewise
	Groups          ContainerGroups    `json:"groups,omitempty"`         // further groups, ascending, each once
	Environment     ContainerVariables `json:"environment,omitempty"`    // names of its environment variables, ascending, each once
	EnvironmentHash *evidence.Digest   `json:"environmentHash,omitzero"` // of names and values, if they cannot be guessed: see ContainerEnvironment
	Capabilities    ContainerWords     `json:"capabilities,omitempty"`   // all that any of its sets has, ascending, as in "CAP_NET_RAW"
	NoNewPrivileges bool               `json:"noNewPrivileges,omitzero"` // no program that it runs gets more than it has
	Seccomp         *evidence.Digest   `json:"seccomp,omitzero"`         // SHA-256 of the filter in its configuration; nil if it has none
	Terminal        bool               `json:"terminal,omitzero"`        // it has a terminal
}

// ContainerMount is something that is mounted over the root file system. Its content is not
// measured.
type ContainerMount struct {
	Destination string         `json:"destination"`       // absolute path in the container
	Type        string         `json:"type"`              // kind of file system, or "bind" for a part of the machine
	Source      string         `json:"source,omitzero"`   // path on the machine, device, or a name that the kernel ignores
	Options     ContainerWords `json:"options,omitempty"` // as given, in their order
}

// ContainerDevice is a device node that the engine makes in the container.
type ContainerDevice struct {
	Path  string `json:"path"`  // absolute path in the container
	Type  string `json:"type"`  // "b", "c", "p" or "u", as mknod(1) takes it
	Major uint32 `json:"major"` // 0 of a FIFO
	Minor uint32 `json:"minor"` // likewise
}

// namespaceKinds are the kinds of namespaces as /proc/PID/ns names them.
var namespaceKinds = []string{"cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"}

// isNamespace reports whether a word is a kind of namespace.
func isNamespace(kind string) bool { return slices.Contains(namespaceKinds, kind) }

// Host reports whether the container shares a kind of namespace with the machine.
func (c *ContainerEvent) Host(kind string) bool { return !slices.Contains(c.Namespaces, kind) }

func (c *ContainerEvent) check() error {
	err := cmp.Or(
		evidence.CheckContainerID("container", c.Engine, c.ID),
		text.Check("container.image.name", c.Image.Name, 0, evidence.MaxName),
		text.Check("container.app", c.App, 0, evidence.MaxName),
		absolute("container.cgroup", c.Cgroup),
		c.Process.check(),
	)
	switch {
	case err != nil:
		return err
	case (c.App == "") != (c.Declaration == nil):
		return fmt.Errorf("container.declaration must be present exactly if container.app is")
	case max(c.Started, c.Root.Files, c.Root.Bytes) > strictjson.MaxInteger:
		return fmt.Errorf("container.started, root.files or root.bytes is above 2^53 - 1")
	case c.Root.Files > MaxRootFiles:
		return fmt.Errorf("container.root.files is %d, want at most %d", c.Root.Files, MaxRootFiles)
	}
	for i, m := range c.Mounts {
		if err := m.check(); err != nil {
			return fmt.Errorf("container.mounts[%d]: %w", i, err)
		}
	}
	for i, d := range c.Devices {
		if err := absolute("path", d.Path); err != nil {
			return fmt.Errorf("container.devices[%d]: %w", i, err)
		}
		if !slices.Contains([]string{"b", "c", "p", "u"}, d.Type) {
			return fmt.Errorf("container.devices[%d]: type %s is not known", i, text.Excerpt(d.Type))
		}
	}
	own := func(kind string) bool { return !c.Host(kind) }
	return cmp.Or(ascendingWords("container.namespaces", c.Namespaces, isNamespace), ascendingWords("container.shared", c.Shared, own))
}

func (p *ContainerProcess) check() error {
	if len(p.Args) == 0 {
		return fmt.Errorf("container.process.args is empty")
	}
	for i, a := range p.Args {
		if len(a) > maxArgument || slices.Contains(a, 0) {
			return fmt.Errorf("container.process.args[%d] has %d bytes or a zero byte, want at most %d bytes", i, len(a), maxArgument)
		}
	}
	if p.UID == math.MaxUint32 || p.GID == math.MaxUint32 {
		return fmt.Errorf("container.process.uid or gid is missing, or %d", uint32(math.MaxUint32))
	}
	for i, g := range p.Groups {
		if i > 0 && g <= p.Groups[i-1] || g == math.MaxUint32 {
			return fmt.Errorf("container.process.groups[%d]: %d is not in ascending order", i, g)
		}
	}
	for i, n := range p.Environment {
		if err := text.Check("name", n, 1, evidence.MaxPath); err != nil {
			return fmt.Errorf("container.process.environment[%d]: %w", i, err)
		}
		if i > 0 && n <= p.Environment[i-1] || strings.Contains(n, "=") {
			return fmt.Errorf("container.process.environment[%d]: %q is not in ascending order", i, n)
		}
	}
	if p.EnvironmentHash != nil && !slices.Contains(p.Environment, EnvironmentSalt) {
		return fmt.Errorf("container.process.environmentHash without the variable %s: its values could be guessed", EnvironmentSalt)
	}
	return cmp.Or(absolute("container.process.cwd", p.Cwd), ascendingWords("container.process.capabilities", p.Capabilities, isCapability))
}

func (m *ContainerMount) check() error {
	for i, o := range m.Options {
		if err := text.Check("option", o, 1, evidence.MaxPath); err != nil {
			return fmt.Errorf("options[%d]: %w", i, err)
		}
	}
	return cmp.Or(absolute("destination", m.Destination), text.Check("type", m.Type, 1, evidence.MaxName), text.Check("source", m.Source, 0, evidence.MaxPath))
}

// maxArgument is the longest argument that Linux takes (MAX_ARG_STRLEN of execve(2)), in bytes.
const maxArgument = 128 << 10

// MaxRootFiles is how many files a root file system may have.
const MaxRootFiles = 200000

// absolute checks an absolute path of at most evidence.MaxPath bytes.
func absolute(part, path string) error {
	if err := text.Check(part, path, 1, evidence.MaxPath); err != nil {
		return err
	}
	if path[0] != '/' {
		return fmt.Errorf("%s %s is not an absolute path", part, text.Excerpt(path))
	}
	return nil
}

// ascendingWords checks a list of words of one kind.
func ascendingWords(part string, words ContainerWords, known func(string) bool) error {
	for i, w := range words {
		if !known(w) {
			return fmt.Errorf("%s[%d]: %s is not known", part, i, text.Excerpt(w))
		}
		if i > 0 && w <= words[i-1] {
			return fmt.Errorf("%s[%d]: %q is not in ascending order", part, i, w)
		}
	}
	return nil
}

// isCapability reports whether a word has the form of the name of a capability: later kernels
// have more of them.
func isCapability(s string) bool {
	name, ok := strings.CutPrefix(s, "CAP_")
	return ok && name != "" && len(s) <= 64 && strings.Trim(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") == ""
}

// EnvironmentSalt is the variable that makes a digest of an environment one from which no value can be
// guessed.
const EnvironmentSalt = "AGENTD_ENVIRONMENT_SALT"

// minSalt is the least length of the value of [EnvironmentSalt], in bytes: 128 bits in hexadecimal.
const minSalt = 32

// labelEnvironment is the label of the digest of an environment: each variable as NAME=VALUE.
const labelEnvironment = "agentd/environment/1"

// ContainerEnvironment returns the names of the variables of an environment, ascending and each
// once, and the digest over names and values.
//
// Values may be secrets, and a log is read by many. A digest of a password that a person chose can
// be guessed. So there is a digest only if the environment has a variable that cannot be guessed:
// [EnvironmentSalt], of 32 bytes or more, which the party that starts the container chose at
// random. The digest is SHA-256 P("agentd/environment/1", and each NAME=VALUE, ascending by its
// bytes). Engines set HOSTNAME to the name of the host in the container, which is new for each
// container. A variable HOSTNAME of that value, if the name is not empty, is not part of the digest.
//
// If a name occurs twice, programs differ in which they take, so all are part of the digest. What
// has no "=" is a name without a value.
func ContainerEnvironment(variables []string, hostname string) (names []string, digest *evidence.Digest) {
	var parts [][]byte
	salted := false
	for _, v := range variables {
		name, value, _ := strings.Cut(v, "=")
		names = append(names, name)
		salted = salted || name == EnvironmentSalt && len(value) >= minSalt
		if hostname == "" || v != "HOSTNAME="+hostname {
			parts = append(parts, []byte(v))
		}
	}
	slices.Sort(names)
	names = slices.Compact(names)
	if !salted {
		return names, nil
	}
	slices.SortFunc(parts, bytes.Compare)
	sum := evidence.Sum256(labelEnvironment, parts...)
	return names, &sum
}

// Lists of the event of a container. Each stops reading at its cap.
type (
	ContainerArgs      []evidence.Bytes
	ContainerGroups    []uint32
	ContainerVariables []string
	ContainerWords     []string
	ContainerMounts    []ContainerMount
	ContainerDevices   []ContainerDevice
)

// UnmarshalJSONFrom reads at most 4096 arguments.
func (l *ContainerArgs) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	return strictjson.DecodeList(d, l, maxArgs, nil)
}

// UnmarshalJSONFrom reads at most 1024 groups.
func (l *ContainerGroups) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	return strictjson.DecodeList(d, l, maxGroups, math.MaxUint32)
}

// UnmarshalJSONFrom reads at most 4096 names.
func (l *ContainerVariables) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	return strictjson.DecodeList(d, l, maxVariables, "")
}

// UnmarshalJSONFrom reads at most 64 words.
func (l *ContainerWords) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	return strictjson.DecodeList(d, l, maxWords, "")
}

// UnmarshalJSONFrom reads at most 1024 mounts.
func (l *ContainerMounts) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	return strictjson.DecodeList(d, l, maxMounts, ContainerMount{})
}

// UnmarshalJSONFrom reads at most 1024 devices.
func (l *ContainerDevices) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	return strictjson.DecodeList(d, l, maxDevices, ContainerDevice{})
}

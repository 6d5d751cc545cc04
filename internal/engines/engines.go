// SPDX-License-Identifier: Apache-2.0

// Package engines sets engines of containers up to have containers measured, and undoes that. It
// works on the files of a machine, which may be one that is being built:
//
//	podman, CRI-O  a hook in /usr/share/containers/oci/hooks.d (oci-hooks(5))
//	docker         a runtime in /etc/docker/daemon.json, which is the default then
//	containerd     a runtime in /etc/containerd/config.toml, which an administrator writes
//
// Nothing of other authors in these files is changed. What cannot be read for certain is not written.
package engines

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cvm-agentd/agentd/internal/durable"
)

// Program is the program that the hook and the runtimes lead to. Beside it are links with the names
// of the runtimes.
const Program = "/usr/libexec/agentd/agentd-container"

// Files that are written or read.
const (
	HookFile   = "/usr/share/containers/oci/hooks.d/agentd.json"
	DockerFile = "/etc/docker/daemon.json"
	ContainerD = "/etc/containerd/config.toml"
)

// maxFile is the largest of these files that is read.
const maxFile = 1 << 20

// runtimeName is the name of the runtime in the configuration of docker.
const runtimeName = "agentd"

// A State is how an engine is set up.
type State string

const (
	Enabled  State = "enabled"  // containers that start from now on are measured
	Disabled State = "disabled" // they are not
	Partly   State = "partly"   // only those that ask for it
)

// A Change is what setting an engine up changes in a file.
type Change struct {
	Path    string
	Content []byte // nil: the file is removed
	Next    string // what to do then, for people
	Manual  bool   // an administrator has to write Content into Path
}

// An Engine is one of the engines of containers.
type Engine struct {
	Name    string
	File    string // that is changed
	state   func(content []byte) (State, error)
	enable  func(content []byte, runtime string) ([]byte, error)
	disable func(content []byte) ([]byte, error)
	next    string
	manual  bool
}

// All returns the engines that can be set up.
func All() []Engine {
	return []Engine{
		{"podman", HookFile, hookState, enableHook, disableHook, "containers that podman and CRI-O start from now on are measured; those that run are not, until they are started again", false},
		{"docker", DockerFile, dockerState, enableDocker, disableDocker, "restart docker, which stops containers unless live-restore is set: systemctl restart docker.service; containers that were made before keep their runtime, so make them again", false},
		{"containerd", ContainerD, containerdState, enableContainerd, disableContainerd, "then restart containerd: systemctl restart containerd.service; containers that run go on unmeasured", true},
	}
}

// Find returns an engine by name.
func Find(name string) (Engine, error) {
	all := All()
	if i := slices.IndexFunc(all, func(e Engine) bool { return e.Name == name }); i >= 0 {
		return all[i], nil
	}
	return Engine{}, fmt.Errorf("engine %q is not known: want podman, docker or containerd", name)
}

// State returns how the engine is set up below root.
func (e Engine) State(root string) (State, error) {
	content, err := e.read(root)
	if err != nil {
		return "", err
	}
	s, err := e.state(content)
	if err != nil {
		return "", fmt.Errorf("%s: %w", e.File, err)
	}
	return s, nil
}

// Enable returns what has to change below root so that containers are measured, nil if nothing has
// to. runtime is runc or crun, for engines that need to be told.
func (e Engine) Enable(root, runtime string) (*Change, error) {
	if runtime != "runc" && runtime != "crun" {
		return nil, fmt.Errorf("runtime %q is not known: want runc or crun", runtime)
	}
	return e.change(root, func(content []byte) ([]byte, error) { return e.enable(content, runtime) })
}

// Disable returns what has to change below root so that containers are not measured, nil if nothing
// has to.
func (e Engine) Disable(root string) (*Change, error) { return e.change(root, e.disable) }

func (e Engine) change(root string, f func([]byte) ([]byte, error)) (*Change, error) {
	before, err := e.read(root)
	if err != nil {
		return nil, err
	}
	after, err := f(before)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", e.File, err)
	}
	if bytes.Equal(before, after) {
		return nil, nil
	}
	return &Change{Path: e.File, Content: after, Next: e.next, Manual: e.manual}, nil
}

// read returns the content of the engine's file, nil if there is none.
func (e Engine) read(root string) ([]byte, error) {
	b, err := durable.ReadTrusted(filepath.Join(root, e.File), maxFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", e.File, err)
	}
	return b, nil
}

// Write makes a change below root.
func (c *Change) Write(root string) error {
	path := filepath.Join(root, c.Path)
	if c.Content == nil {
		err := os.Remove(path)
		if errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return durable.WriteReadable(path, c.Content)
}

// runtimePath returns the link that stands for a runtime of an engine.
func runtimePath(engine, runtime string) string {
	return filepath.Join(filepath.Dir(Program), engine+"-"+runtime)
}

// ours reports whether path is that of a runtime of ours for an engine.
func ours(engine, path string) bool {
	return path == runtimePath(engine, "runc") || path == runtimePath(engine, "crun")
}

// contains reports whether a line of content, without a comment, contains s.
func contains(content []byte, s string) bool {
	for line := range strings.Lines(string(content)) {
		line, _, _ = strings.Cut(line, "#")
		if strings.Contains(line, s) {
			return true
		}
	}
	return false
}

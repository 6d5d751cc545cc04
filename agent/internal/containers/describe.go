// SPDX-License-Identifier: Apache-2.0

package containers

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"slices"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/cvm-agentd/agentd/agent/internal/peer"
	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/oci"
	"github.com/cvm-agentd/agentd/pcr"
)

// describe makes the event of x, without its root file system, which it opens.
func (x *examined) describe(proc string, machine int, app *Declared) error {
	if err := x.openFiles(); err != nil {
		return err
	}
	e := &pcr.ContainerEvent{Engine: x.request.Engine, ID: x.request.ID, Started: x.held.Started, Cgroup: x.group, Image: x.image}
	if app != nil {
		e.App, e.Declaration = app.Name, &app.Digest
	}
	var err error
	if e.Process, err = processOf(x.spec); err != nil {
		return refuse(api.CodeContainerConfig, "%s: %v", oci.ConfigName, err)
	}
	for _, m := range x.spec.Mounts {
		e.Mounts = append(e.Mounts, mountOf(m))
	}
	for i, d := range x.spec.Linux.Devices {
		if d.Major < 0 || d.Minor < 0 || max(d.Major, d.Minor) > math.MaxUint32 {
			return refuse(api.CodeContainerConfig, "%s: linux.devices[%d] has numbers that no device has", oci.ConfigName, i)
		}
		e.Devices = append(e.Devices, pcr.ContainerDevice{Path: d.Path, Type: d.Type, Major: uint32(d.Major), Minor: uint32(d.Minor)})
	}
	e.AllDevices = allDevices(x.spec)
	if e.Namespaces, err = x.namespaces(proc, machine); err != nil {
		return refuse(api.CodeContainerState, "%v", err)
	}
	x.event = e
	return nil
}

// processOf returns the first process as the engine was told.
func processOf(s *oci.Spec) (p pcr.ContainerProcess, err error) {
	in := s.Process
	p = pcr.ContainerProcess{Cwd: in.Cwd, UID: in.User.UID, GID: in.User.GID, NoNewPrivileges: in.NoNewPrivs, Terminal: in.Terminal}
	for _, a := range in.Args {
		p.Args = append(p.Args, evidence.Bytes(a))
	}
	groups := slices.Clone(in.User.Groups)
	slices.Sort(groups)
	p.Groups = slices.Compact(groups)
	p.Environment, p.EnvironmentHash = pcr.ContainerEnvironment(in.Env, s.Hostname)
	if c := in.Capabilities; c != nil {
		all := slices.Concat(c.Bounding, c.Effective, c.Inheritable, c.Permitted, c.Ambient)
		slices.Sort(all)
		p.Capabilities = slices.Compact(all)
	}
	if filter := bytes.TrimSpace(s.Linux.Seccomp); len(filter) > 0 && !bytes.Equal(filter, []byte("null")) {
		v := jsontext.Value(filter).Clone()
		if err := v.Canonicalize(); err != nil { // RFC 8785
			return p, fmt.Errorf("linux.seccomp: %w", err)
		}
		digest := evidence.Digest(sha256.Sum256(v))
		p.Seccomp = &digest
	}
	return p, nil
}

func mountOf(m oci.Mount) pcr.ContainerMount {
	out := pcr.ContainerMount{Destination: m.Destination, Type: m.Type, Source: m.Source, Options: m.Options}
	if bind := slices.Contains(m.Options, "bind") || slices.Contains(m.Options, "rbind"); bind || out.Type == "" {
		out.Type = "bind"
	}
	return out
}

// allDevices reports whether the container may use every device: the rules allow all of them, or
// none forbids all of them. The last rule counts (config-linux.md, "Allowed Device list").
func allDevices(s *oci.Spec) bool {
	all := true
	if r := s.Linux.Resources; r != nil {
		for _, d := range r.Devices {
			if every := (d.Type == "" || d.Type == "a") && (d.Major == nil || *d.Major < 0) && (d.Minor == nil || *d.Minor < 0); every {
				all = d.Allow
			}
		}
	}
	return all
}

// kinds are the kinds of namespaces, as /proc/PID/ns names them.
var kinds = []string{"cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"}

// namespaces returns the kinds of namespaces that the container does not share with the machine's
// first process.
func (x *examined) namespaces(proc string, machine int) (own pcr.ContainerWords, err error) {
	first, err := peer.Hold(proc, machine)
	if err != nil {
		return nil, fmt.Errorf("look at the namespaces of the machine: %w", err)
	}
	defer first.Close()
	for _, kind := range kinds {
		shared, err := first.Namespace(kind)
		if errors.Is(err, fs.ErrNotExist) {
			continue // the kernel does not have it
		}
		if err != nil {
			return nil, fmt.Errorf("look at the namespaces of the machine: %w", err)
		}
		theirs, err := x.held.Namespace(kind)
		if err != nil {
			return nil, fmt.Errorf("look at its namespaces: %w", err)
		}
		if theirs != shared {
			own = append(own, kind)
		}
	}
	return own, nil
}

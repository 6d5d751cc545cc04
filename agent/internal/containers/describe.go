// SPDX-License-Identifier: Apache-2.0

package containers

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"
	"golang.org/x/sys/unix"

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
	if e.Shared, err = x.shared(proc, e.Namespaces); err != nil {
		return refuse(api.CodeContainerState, "look for others in its namespaces: %v", err)
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

// allDevices reports whether the container may use every device, or one that the record does not
// name: a container that may make a node makes it itself. A rule that forbids all takes back what
// the rules before it allow (config-linux.md, "Allowed Device list"), and without one all are
// allowed. One that forbids some is passed over.
func allDevices(s *oci.Spec) bool {
	all := true
	if r := s.Linux.Resources; r != nil {
		for i := range r.Devices {
			if d := &r.Devices[i]; !d.Allow {
				all = all && !everyDevice(d)
			} else {
				all = all || everyDevice(d) || !harmless(d) && !named(d, s.Linux.Devices)
			}
		}
	}
	return all
}

// everyDevice reports whether a rule is about all devices.
func everyDevice(d *oci.DeviceRule) bool {
	return (d.Type == "" || d.Type == "a") && number(d.Major) == anyNumber && number(d.Minor) == anyNumber
}

// anyNumber stands for all numbers in a rule.
const anyNumber = -1

func number(n *int64) int64 {
	if n == nil || *n < 0 {
		return anyNumber
	}
	return *n
}

// ownDevices are the devices that each container has, by major and minor: null, zero, full, random,
// urandom, tty, console, ptmx, terminals, and tun, which acts on the network of the container.
var ownDevices = [][2]int64{{1, 3}, {1, 5}, {1, 7}, {1, 8}, {1, 9}, {5, 0}, {5, 1}, {5, 2}, {136, anyNumber}, {10, 200}}

// harmless reports whether a rule allows no more than each container may: to make nodes, which is not a
// use of a device, and to use those of its own.
func harmless(d *oci.DeviceRule) bool {
	if d.Access == "m" {
		return true
	}
	return d.Type == "c" && slices.ContainsFunc(ownDevices, func(n [2]int64) bool {
		return number(d.Major) == n[0] && (n[1] == anyNumber || number(d.Minor) == n[1])
	})
}

// named reports whether a rule is about a device that is named.
func named(d *oci.DeviceRule, devices []oci.Device) bool {
	return slices.ContainsFunc(devices, func(x oci.Device) bool {
		same := x.Type == d.Type || x.Type == "u" && d.Type == "c"
		return same && number(d.Major) == x.Major && number(d.Minor) == x.Minor && x.Major >= 0 && x.Minor >= 0
	})
}

// kinds are the kinds of namespaces that a record can have, as /proc/PID/ns names them.
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

// shared returns the kinds of namespaces of the container in which other processes are, such as those
// of its pod. Nothing of the container has run, so none of them is its own.
func (x *examined) shared(proc string, own pcr.ContainerWords) (out pcr.ContainerWords, err error) {
	links := make([]string, len(own)) // of own, as /proc spells them; empty if found
	for i, kind := range own {
		n, err := x.held.Namespace(kind)
		if err != nil {
			return nil, err
		}
		links[i] = fmt.Sprintf("%s:[%d]", kind, n)
	}
	f, err := os.Open(proc)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	names, err := f.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		if pid, err := strconv.Atoi(name); err != nil || pid == x.held.PID {
			continue
		}
		for i, kind := range own {
			link, err := os.Readlink(filepath.Join(proc, name, "ns", kind))
			if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) || errors.Is(err, fs.ErrPermission) {
				break // it ended, or the machine hides it: the packaged agent may look at each process
			}
			if err != nil {
				return nil, err
			}
			if link == links[i] {
				out, links[i] = append(out, kind), ""
			}
		}
	}
	slices.Sort(out)
	return out, nil
}

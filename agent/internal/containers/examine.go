// SPDX-License-Identifier: Apache-2.0

package containers

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cvm-agentd/agentd/agent/internal/peer"
	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/caller"
	"github.com/cvm-agentd/agentd/internal/oci"
	"github.com/cvm-agentd/agentd/internal/rootfs"
	"github.com/cvm-agentd/agentd/pcr"
)

// examined is a container that is being created, with what the agent found.
type examined struct {
	request api.ContainerRequest
	held    *peer.Held
	machine *os.File // root of the mount namespace of the hook
	view    *os.File // root of that of the container, which is not changed to its own root yet
	bundle  *oci.Bundle
	spec    *oci.Spec
	image   pcr.ContainerImage
	group   string // control group
	inode   uint64 // of the control group
	unit    string // that the control group is in; empty if none
	mounts  uint64 // mount namespace
	uid     uint32 // of the first process, as the machine sees it
	root    *os.File
	over    []string       // where something is mounted over the root file system, in the container's paths
	layers  *rootfs.Layers // of the root file system; nil if it is not an overlay whose digests are kept
	config  *Config
	event   *pcr.ContainerEvent
	number  uint64 // of its record
}

func (x *examined) close() {
	if x.held != nil {
		x.held.Close()
	}
	if x.bundle != nil {
		x.bundle.Close()
	}
	x.layers.Close()
	for _, f := range []*os.File{x.machine, x.view, x.root} {
		if f != nil {
			f.Close()
		}
	}
}

// look reads what a container is, apart from its files.
func (c *Containers) look(h Hook, r api.ContainerRequest) (_ *examined, err error) {
	if err := evidence.CheckContainerID("container", r.Engine, r.ID); err != nil {
		return nil, refuse(api.CodeInvalidValue, "%v", err)
	}
	x := &examined{request: r, config: &c.c}
	defer func() {
		if err != nil {
			x.close()
		}
	}()
	if x.held, err = peer.Hold(c.c.Proc, int(min(r.PID, 1<<31-1))); err != nil {
		return nil, refuse(api.CodeContainerState, "process %d of the container: %v", r.PID, err)
	}
	if err := x.open(c.c.Proc, h); err != nil {
		return nil, err
	}
	if err := x.place(c.c.Proc, c.c.Groups); err != nil {
		return nil, err
	}
	if x.image, err = imageOf(x.machine, r, x.spec); err != nil {
		return nil, refuse(api.CodeContainerConfig, "find out of which image it is: %v", err)
	}
	return x, nil
}

// open opens the mount namespaces and the bundle.
func (x *examined) open(proc string, h Hook) (err error) {
	if x.machine, err = os.OpenFile(filepath.Join(proc, strconv.Itoa(h.PID), "root"), unix.O_PATH|unix.O_DIRECTORY, 0); err != nil {
		return refuse(api.CodeContainerState, "open the mount namespace of the hook: %v", err)
	}
	if err := h.Running(); err != nil { // only now is it known to be the hook's
		return refuse(api.CodeContainerState, "the hook: %v", err)
	}
	if x.view, err = openRoot(x.held); err != nil {
		return refuse(api.CodeContainerState, "open the mount namespace of the container: %v", err)
	}
	if x.bundle, err = oci.OpenBundle(x.machine, x.request.Bundle); err != nil {
		return refuse(api.CodeContainerConfig, "%v", err)
	}
	if x.spec, err = oci.ParseSpec(x.bundle.Config); err != nil {
		return refuse(api.CodeContainerConfig, "%v", err)
	}
	return nil
}

// place finds out where the first process is: control group, unit, namespaces and user.
func (x *examined) place(proc string, g Groups) (err error) {
	if x.group, err = g.Of(x.held); err != nil {
		return refuse(api.CodeContainerState, "%v", err)
	}
	if x.group == "/" || strings.Contains(x.group+"/", "/../") {
		return refuse(api.CodeContainerState, "it has no control group of its own: run it with one, and without --cgroups=disabled")
	}
	if x.inode, err = g.Inode(x.group); err != nil {
		return refuse(api.CodeContainerState, "look at its control group: %v", err)
	}
	if err := x.alone(g); err != nil {
		return err
	}
	x.unit, _ = caller.UnitOf(x.group)
	if x.mounts, err = x.held.Namespace("mnt"); err != nil {
		return refuse(api.CodeContainerState, "its mount namespace: %v", err)
	}
	machine, err := peer.Hold(proc, os.Getpid())
	if err == nil {
		defer machine.Close()
		var ours uint64
		if ours, err = machine.Namespace("mnt"); err == nil && ours == x.mounts {
			err = errors.New("it is the agent's: the container has none of its own")
		}
	}
	if err != nil {
		return refuse(api.CodeContainerState, "its mount namespace: %v", err)
	}
	if x.uid, err = hostUID(x.held, x.spec.Process.User.UID); err != nil {
		return refuse(api.CodeContainerConfig, "user of its first process: %v", err)
	}
	return nil
}

// alone refuses a control group that other processes are in, which would be in the container then.
func (x *examined) alone(g Groups) error {
	pids, err := g.Processes(x.group)
	if err != nil {
		return refuse(api.CodeContainerState, "look at its control group: %v", err)
	}
	if len(pids) != 1 || pids[0] != x.held.PID {
		return refuse(api.CodeContainerState, "its control group %s has %s, want its first process alone: run it with a control group of its own, and without --cgroups=disabled or --cgroups=no-conmon", x.group, processes(len(pids)))
	}
	return nil
}

// unchanged looks again at what a container was taken for, now that all of it was read.
func (x *examined) unchanged(g Groups) error {
	if err := x.held.Same(); err != nil {
		return refuse(api.CodeContainerState, "%v", err)
	}
	again, err := oci.OpenBundle(x.machine, x.request.Bundle)
	if err != nil {
		return refuse(api.CodeContainerConfig, "%v", err)
	}
	defer again.Close()
	if !bytes.Equal(again.Config, x.bundle.Config) {
		return refuse(api.CodeContainerConfig, "%s changed while the container was measured", oci.ConfigName)
	}
	if group, err := g.Of(x.held); err != nil || group != x.group {
		return refuse(api.CodeContainerState, "it was moved to the control group %q while it was measured: %v", group, err)
	}
	if inode, err := g.Inode(x.group); err != nil || inode != x.inode {
		return refuse(api.CodeContainerState, "its control group was made again while it was measured: %v", err)
	}
	return x.alone(g)
}

// mounted reports whether something is mounted over the root file system at a path of the container.
func (x *examined) mounted(path string) bool {
	_, found := slices.BinarySearch(x.over, path)
	return found
}

// openFiles opens the root file system as the engine mounted it, and finds what is mounted over it.
func (x *examined) openFiles() (err error) {
	path := x.spec.RootPath(filepath.Clean(x.request.Bundle))
	if x.root, err = oci.In(x.machine, path, unix.O_RDONLY|unix.O_DIRECTORY); err != nil {
		return refuse(api.CodeContainerRoot, "open root.path of %s: %v", oci.ConfigName, err)
	}
	seen, err := oci.In(x.view, path, unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return refuse(api.CodeContainerRoot, "open root.path of %s in the container: %v", oci.ConfigName, err)
	}
	defer seen.Close()
	ours, err := identify(x.root)
	if err != nil {
		return refuse(api.CodeContainerRoot, "look at the root file system: %v", err)
	}
	theirs, err := identify(seen)
	if err != nil {
		return refuse(api.CodeContainerRoot, "look at the root file system in the container: %v", err)
	}
	if ours.dev != theirs.dev || ours.inode != theirs.inode {
		return refuse(api.CodeContainerRoot, "%s is another folder in the container than for the engine: something is mounted over it", path)
	}
	if !theirs.top {
		return refuse(api.CodeContainerRoot, "%s is not where something is mounted in the container, so what is mounted over it cannot be told", path)
	}
	x.over, err = x.covered(seen, theirs.mount)
	return err
}

// covered returns where something is mounted over the root file system, which is open as root. Each
// mount must be one that the configuration names, or below one.
func (x *examined) covered(root *os.File, mount uint64) ([]string, error) {
	b, err := x.held.Read("mountinfo", maxMountInfo)
	if err != nil {
		return nil, refuse(api.CodeContainerRoot, "read which mounts it has: %v", err)
	}
	all, err := parseMounts(b)
	if err != nil {
		return nil, refuse(api.CodeContainerRoot, "read which mounts it has: %v", err)
	}
	i := slices.IndexFunc(all, func(m mountLine) bool { return m.id == mount })
	if i < 0 {
		return nil, refuse(api.CodeContainerRoot, "its root file system is not among its mounts")
	}
	top := all[i].point
	if x.config.Layers != nil && all[i].kind == "overlay" {
		open := func(path string) (*os.File, error) { return oci.In(x.machine, path, unix.O_PATH) }
		if x.layers, err = x.config.Layers(all[i].options, top, open); err != nil {
			return nil, refuse(api.CodeContainerRoot, "the root file system: %v", err)
		}
	}
	named, err := x.named(root, all, mount)
	if err != nil {
		return nil, err
	}
	var over []string
	for _, m := range all {
		if m.point == top || !within(m.point, top) {
			continue
		}
		if !slices.ContainsFunc(named, func(n string) bool { return within(m.point, n) }) {
			return nil, refuse(api.CodeContainerRoot, "something is mounted at %s that %s does not name", strings.TrimPrefix(m.point, top), oci.ConfigName)
		}
		over = append(over, strings.TrimPrefix(m.point, top))
	}
	slices.Sort(over)
	return slices.Compact(over), nil
}

// named returns where the mounts that the configuration names are.
func (x *examined) named(root *os.File, all []mountLine, own uint64) (points []string, err error) {
	var wanted []string
	for _, m := range x.spec.Mounts {
		wanted = append(wanted, m.Destination)
	}
	wanted = append(append(wanted, x.spec.Linux.Masked...), x.spec.Linux.ReadOnly...)
	for _, path := range wanted {
		f, err := oci.In(root, path, unix.O_PATH)
		if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
			continue // the runtime does not mount it, or not yet
		} else if err != nil {
			return nil, refuse(api.CodeContainerRoot, "look at the mount %s: %v", path, err)
		}
		at, err := identify(f)
		f.Close()
		if err != nil {
			return nil, refuse(api.CodeContainerRoot, "look at the mount %s: %v", path, err)
		}
		if i := slices.IndexFunc(all, func(m mountLine) bool { return m.id == at.mount }); i >= 0 && at.top && at.mount != own {
			points = append(points, all[i].point)
		}
	}
	return points, nil
}

// spot tells one file, and the mount that it is in.
type spot struct {
	dev, inode uint64
	mount      uint64 // id of the mount
	top        bool   // it is the root of that mount
}

func identify(f *os.File) (spot, error) {
	var st unix.Statx_t
	const mask = unix.STATX_TYPE | unix.STATX_INO | unix.STATX_MNT_ID
	if err := unix.Statx(int(f.Fd()), "", unix.AT_EMPTY_PATH|unix.AT_STATX_DONT_SYNC, mask, &st); err != nil {
		return spot{}, err
	}
	if st.Mask&unix.STATX_MNT_ID == 0 || st.Attributes_mask&unix.STATX_ATTR_MOUNT_ROOT == 0 {
		return spot{}, errors.New("the kernel does not say in which mount it is: Linux 5.8 or later does")
	}
	return spot{
		dev: unix.Mkdev(st.Dev_major, st.Dev_minor), inode: st.Ino, mount: st.Mnt_id,
		top: st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0,
	}, nil
}

// maxMountInfo is how many bytes of a mountinfo are read.
const maxMountInfo = 4 << 20

// mountLine is one line of /proc/PID/mountinfo.
type mountLine struct {
	id            uint64
	point         string
	kind, options string // of the file system
}

// parseMounts reads id, mount point and file system of each mount (proc_pid_mountinfo(5)):
//
//	36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue
//
// Space, tab, line feed and backslash in a path are octal numbers of three digits.
func parseMounts(b []byte) (all []mountLine, err error) {
	for line := range bytes.Lines(b) {
		fields := bytes.Fields(line)
		if len(fields) < 10 {
			return nil, fmt.Errorf("a line has %d fields, want at least 10", len(fields))
		}
		id, err := strconv.ParseUint(string(fields[0]), 10, 64)
		if err != nil {
			return nil, errors.New("the id of a mount is not a number")
		}
		end := slices.IndexFunc(fields[6:], func(f []byte) bool { return string(f) == "-" }) // of optional fields
		if end < 0 || len(fields) < 6+end+3 {
			return nil, errors.New("a line has no file system")
		}
		all = append(all, mountLine{id, unescape(string(fields[4])), string(fields[6+end+1]), unescape(string(fields[len(fields)-1]))})
	}
	return all, nil
}

func unescape(s string) string {
	var out strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				out.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		out.WriteByte(s[i])
	}
	return out.String()
}

// hostUID returns the uid by which the machine knows a user of the container, by the uid_map of
// its first process (user_namespaces(7)): the agent is in the first user namespace, so the second
// number of a line is the machine's.
func hostUID(h *peer.Held, uid uint32) (uint32, error) {
	b, err := h.Read("uid_map", 64<<10)
	if err != nil {
		return 0, err
	}
	for line := range bytes.Lines(b) {
		var n [3]uint64
		fields := strings.Fields(string(line))
		for i := range min(len(fields), 3) {
			if n[i], err = strconv.ParseUint(fields[i], 10, 32); err != nil {
				return 0, errors.New("its uid_map is not one of numbers")
			}
		}
		if inside, outside, size := n[0], n[1], n[2]; uint64(uid) >= inside && uint64(uid)-inside < size {
			return uint32(outside + uint64(uid) - inside), nil
		}
	}
	return 0, fmt.Errorf("uid %d is not in the user namespace of the container", uid)
}

// processes says how many processes there are.
func processes(n int) string {
	if n == 1 {
		return "another process"
	}
	return fmt.Sprintf("%d processes", n)
}

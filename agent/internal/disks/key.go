// SPDX-License-Identifier: Apache-2.0

package disks

import (
	"context"
	"fmt"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/cvm-agentd/agentd/agent/internal/problem"
	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/internal/crypttab"
	"github.com/cvm-agentd/agentd/internal/luks"
	"github.com/cvm-agentd/agentd/internal/secret"
)

// VolumeKey returns the key of a volume for the systemd-cryptsetup that was started with this
// command line. The caller has checked that the process is that of the volume's unit, and wipes
// the key.
//
// The host can change the header on the device at any time, also after a check. So the header that
// counts is a copy in memory, which root made before (agentctl disk prepare). VolumeKey checks the
// very bytes of that copy, and that the process was told to read it and nothing else.
func (d *Disks) VolumeKey(ctx context.Context, name string, command []string) (*secret.Secret, error) {
	file := crypttab.HeaderFile(d.Folder, name)
	_, rec, err := d.proven(ctx, name)
	if err != nil {
		return nil, err
	}
	defer rec.wipe()
	if err := crypttab.CheckCommand(command, name, file); err != nil {
		return nil, problem.New(api.CodeDiskUnprepared, "systemd-cryptsetup would not use the checked copy of the header: "+err.Error())
	}
	copies, err := d.readCopy(file)
	if err != nil {
		return nil, err
	}
	_, e, err := rec.match(copies)
	if err != nil {
		return nil, refused(err)
	}
	k, err := e.key.Clone()
	if err == nil {
		d.Log.Info("the key of a volume is handed to systemd-cryptsetup", "volume", name)
	}
	return k, err
}

// readCopy reads the copy of a header in memory. Both copies in it must be whole.
func (d *Disks) readCopy(path string) ([]*luks.Header, error) {
	unprepared := func(format string, args ...any) error {
		return problem.New(api.CodeDiskUnprepared, fmt.Sprintf("the checked copy of the header %s: ", path)+fmt.Sprintf(format, args...))
	}
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, unprepared("%v", err)
	}
	f := os.NewFile(uintptr(fd), path)
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, unprepared("%v", err)
	}
	memory := d.Memory
	if memory == nil {
		memory = inMemory
	}
	switch in, err := memory(f); {
	case st.Mode&unix.S_IFMT != unix.S_IFREG || st.Mode&0o022 != 0 || !slices.Contains(d.Owners, st.Uid):
		return nil, unprepared("want a file of root that only root can write")
	case err != nil:
		return nil, unprepared("%v", err)
	case !in:
		return nil, unprepared("it is not in memory, so a host can change it")
	}
	copies, err := luks.Read(f)
	if err != nil {
		return nil, unprepared("%v", err)
	}
	var out []*luks.Header
	for _, c := range copies {
		if c.Err != nil {
			return nil, refused(c.Err)
		}
		out = append(out, c.Header)
	}
	return out, nil
}

// inMemory reports whether a file is on a file system that is in memory.
func inMemory(f *os.File) (bool, error) {
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &st); err != nil {
		return false, err
	}
	return st.Type == unix.TMPFS_MAGIC || st.Type == unix.RAMFS_MAGIC, nil
}

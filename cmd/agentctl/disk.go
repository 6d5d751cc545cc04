// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/client"
	"github.com/cvm-agentd/agentd/internal/cryptsetup"
	"github.com/cvm-agentd/agentd/internal/crypttab"
	"github.com/cvm-agentd/agentd/internal/durable"
	"github.com/cvm-agentd/agentd/internal/luks"
	"github.com/cvm-agentd/agentd/internal/secret"
)

func diskCommand(t *terminal, s *sockets) *cobra.Command {
	return group(t, "disk", diskUsage,
		diskEnroll(t, s),
		plain(s, "list", diskListUsage, (*client.Admin).Disks, t.printDisks),
		onDisk(s, "check", diskCheckUsage, t.checkDisk),
		onDisk(s, "prepare", diskPrepareUsage, func(c *cobra.Command, v *cryptsetup.Volume, _ *api.Disk) error {
			return diskFailed(v.Prepare(c.Context()))
		}),
		onDisk(s, "rotate", diskRotateUsage, locked(func(c *cobra.Command, v *cryptsetup.Volume, _ *api.Disk) error {
			d, err := v.Rotate(c.Context())
			if err != nil {
				return diskFailed(err)
			}
			return present(t, d, nil, func() { t.drawDisk(d) })
		})),
		diskRemove(t, s),
	)
}

// diskFailed returns the exit for an error of a volume.
func diskFailed(err error) error {
	if err == nil {
		return nil
	}
	if x, ok := errors.AsType[*luks.Error](err); ok {
		return refusedDisk(x.Code, err)
	}
	if _, ok := errors.AsType[*api.Problem](err); ok {
		return failed(err)
	}
	switch {
	case errors.Is(err, fs.ErrPermission):
		return (&exitError{code: exitNotPermitted, err: err}).withHint("run it as root")
	case errors.Is(err, cryptsetup.ErrTorn):
		return refusedDisk(api.CodeDiskHeader, err)
	}
	return misuse(err)
}

// refusedDisk returns the exit for what agentctl itself found of a volume. It says the code, as an
// answer of the agent does.
func refusedDisk(c api.Code, err error) *exitError {
	info := c.Info()
	return &exitError{code: cmp.Or(info.Exit, exitSealed), err: fmt.Errorf("%s: %w", c, err), found: c, hint: info.Hint}
}

// headerFolderOf returns the folder of the copies of headers. It has an absolute path, as in crypttab.
func headerFolderOf(s *sockets) (string, error) {
	return filepath.Abs(crypttab.HeaderFolder(cmp.Or(s.admin, os.Getenv(api.AdminEnv), api.AdminSocket)))
}

// headerFolder returns the same folder, which is there then and this user's alone.
func headerFolder(s *sockets) (string, error) {
	folder, err := headerFolderOf(s)
	if err != nil {
		return "", err
	}
	if err := os.Mkdir(folder, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", err
	}
	i, err := os.Lstat(folder)
	if err != nil {
		return "", err
	}
	st, ok := i.Sys().(*syscall.Stat_t)
	if !ok || !i.IsDir() || i.Mode().Perm()&0o077 != 0 || int(st.Uid) != os.Geteuid() {
		return "", fmt.Errorf("%s is not a folder of this user alone (mode 0700)", folder)
	}
	return folder, nil
}

// devicePath returns the device of an enrolled volume: that with its UUID, or else that from which it
// was enrolled. A host can give several disks one UUID, and attach them under any name. The header
// tells which one it is.
func devicePath(d *api.Disk) string {
	path := "/dev/disk/by-uuid/" + d.UUID
	if _, err := os.Stat(path); err == nil && luks.IsUUID(d.UUID) {
		return path
	}
	return d.Device
}

// onDisk returns a command on an enrolled volume.
func onDisk(s *sockets, use, long string, run func(c *cobra.Command, v *cryptsetup.Volume, d *api.Disk) error) *cobra.Command {
	var path string
	c := command(use, long, arguments("NAME"), func(c *cobra.Command, args []string) error {
		d, err := findDisk(c.Context(), s, args[0])
		if err != nil {
			return err
		}
		if path == "" {
			path = devicePath(d)
		}
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			return diskFailed(err)
		}
		defer f.Close()
		v, err := volumeOf(s, args[0], f)
		if err != nil {
			return diskFailed(err)
		}
		return run(c, v, d)
	})
	c.Flags().StringVar(&path, "device", "", "")
	return c
}

// volumeOf returns a volume with its device. Keys pass through this process, so it leaves no core.
func volumeOf(s *sockets, name string, device *os.File) (*cryptsetup.Volume, error) {
	if err := secret.LeaveNoCore(); err != nil {
		return nil, err
	}
	folder, err := headerFolder(s)
	return &cryptsetup.Volume{Agent: s.adminSocket(), Device: device, Name: name, Folder: folder}, err
}

// locked returns run, during which no other agentctl changes the header of the volume.
func locked(run func(c *cobra.Command, v *cryptsetup.Volume, d *api.Disk) error) func(*cobra.Command, *cryptsetup.Volume, *api.Disk) error {
	return func(c *cobra.Command, v *cryptsetup.Volume, d *api.Disk) error {
		unlock, err := durable.LockFile(filepath.Join(v.Folder, v.Name+".lock"))
		if err != nil {
			return misuse(fmt.Errorf("another agentctl changes the header of volume %s: %w", v.Name, err))
		}
		defer unlock()
		return run(c, v, d)
	}
}

// findDisk returns an enrolled volume whose record opens.
func findDisk(ctx context.Context, s *sockets, name string) (*api.Disk, error) {
	all, err := s.adminSocket().Disks(ctx)
	if err != nil {
		return nil, failed(err)
	}
	i := slices.IndexFunc(all.Disks, func(d api.Disk) bool { return d.Name == name })
	if i < 0 {
		return nil, refusedDisk(api.CodeNoSuchDisk, fmt.Errorf("no volume %q is enrolled", name))
	}
	d := &all.Disks[i]
	if d.Code != "" || d.Reason != "" {
		return d, &exitError{code: cmp.Or(d.Code.Info().Exit, exitSealed), err: fmt.Errorf("the record of volume %s does not open: %s", name, cleanLine(d.Reason)), hint: d.Code.Info().Hint}
	}
	return d, nil
}

func diskEnroll(t *terminal, s *sockets) *cobra.Command {
	var e enrollment
	c := command("enroll", diskEnrollUsage, arguments("DEVICE"), func(c *cobra.Command, args []string) error {
		switch {
		case e.name == "":
			return misuse(errors.New("--name is missing")).withHint(helpHint(c))
		case len(e.files) == 0:
			return misuse(errors.New("--key-file is missing: the key of a key slot that the volume has")).withHint(helpHint(c))
		}
		if err := crypttab.CheckName(e.name); err != nil {
			return misuse(err)
		}
		path, err := filepath.Abs(args[0])
		if err != nil {
			return misuse(err)
		}
		e.request.Path = path
		return t.enrollDisk(c, s, &e)
	})
	f := c.Flags()
	f.StringVar(&e.name, "name", "", "")
	f.StringArrayVar(&e.files, "key-file", nil, "")
	f.BoolVar(&e.request.Lose, "lose-on-hardware-change", false, "")
	f.BoolVar(&e.request.Replace, "replace", false, "")
	f.BoolVar(&e.noTable, "no-crypttab", false, "")
	f.BoolVar(&e.yes, "yes", false, "")
	return c
}

// enrollment is what disk enroll was told.
type enrollment struct {
	name    string
	files   []string
	noTable bool
	yes     bool
	request cryptsetup.Request
}

func (t *terminal) enrollDisk(c *cobra.Command, s *sockets, e *enrollment) error {
	for _, file := range e.files {
		k, err := t.readInput(file, 4096)
		if err != nil {
			return err
		}
		defer clear(k)
		e.request.Keys = append(e.request.Keys, k)
	}
	if e.request.Replace {
		if d, err := findDisk(c.Context(), s, e.name); err == nil || d != nil {
			e.request.Slot = new(int(d.Slot))
		}
	}
	f, err := os.OpenFile(e.request.Path, os.O_RDWR, 0)
	if err != nil {
		return diskFailed(err)
	}
	defer f.Close()
	v, err := volumeOf(s, e.name, f)
	if err != nil {
		return diskFailed(err)
	}
	return locked(func(c *cobra.Command, v *cryptsetup.Volume, _ *api.Disk) error {
		d, err := v.Enroll(c.Context(), e.request)
		if err != nil {
			return diskFailed(err)
		}
		if err := present(t, d, nil, func() { t.drawDisk(d) }); err != nil || e.noTable {
			return err
		}
		return t.writeTable(v, d, e.yes)
	})(c, v, nil)
}

func diskRemove(t *terminal, s *sockets) *cobra.Command {
	forget := false
	done := func(name string) error {
		if err := t.removeTable("/", name); err != nil {
			return err
		}
		return present(t, api.DiskName{Name: name}, nil, func() {
			fmt.Fprintf(t.out, "the agent has no key of volume %s any more\n", cleanLine(name))
		})
	}
	c := onDisk(s, "remove", diskRemoveUsage, locked(func(c *cobra.Command, v *cryptsetup.Volume, _ *api.Disk) error {
		if err := v.Remove(c.Context()); err != nil {
			return diskFailed(err)
		}
		return done(v.Name)
	}))
	whole := c.RunE
	c.RunE = func(c *cobra.Command, args []string) error {
		if !forget {
			return whole(c, args)
		}
		folder, err := headerFolder(s)
		if err != nil {
			return diskFailed(err)
		}
		v := &cryptsetup.Volume{Agent: s.adminSocket(), Name: args[0], Folder: folder}
		if err := v.Forget(c.Context()); err != nil {
			return diskFailed(err)
		}
		return done(args[0])
	}
	c.Flags().BoolVar(&forget, "forget", false, "")
	return c
}

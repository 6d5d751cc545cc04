// SPDX-License-Identifier: Apache-2.0

package peer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/boottime"
	"github.com/cvm-agentd/agentd/internal/caller"
	"github.com/cvm-agentd/agentd/internal/durable"
	"github.com/cvm-agentd/agentd/internal/strictjson"
	"golang.org/x/sys/unix"
)

// process implements caller.Process. Both descriptors stay with one process: a pidfd by its
// nature, and a directory of /proc too, whose files answer ESRCH after the process ended,
// even if another process has its number then.
type process struct {
	pid    int
	uid    uint32
	socket string   // that it connected to; empty if it was found by its number
	pidfd  *os.File // nil before Linux 6.5
	dir    *os.File // /proc/PID
	start  uint64   // start time in clock ticks since boot
	image  *observation
}

func (p *process) Close() error {
	var errs []error
	for _, f := range []*os.File{p.pidfd, p.dir} {
		if f == nil {
			continue
		}
		if err := f.Close(); !errors.Is(err, os.ErrClosed) { // the directory may be closed already
			errs = append(errs, err)
		}
	}
	if p.image != nil {
		p.image.cancel()
	}
	return errors.Join(errs...)
}

// Running returns nil while the process that connected has not ended.
func (p *process) Running() error {
	if p.pidfd == nil {
		now, err := p.startTime()
		if err == nil && now != p.start {
			err = fmt.Errorf("%w: its number belongs to a process that started later", caller.ErrGone)
		}
		return err
	}
	// A pidfd is readable after the process ended, reaped or not (pidfd_open(2)).
	ended := false
	err := control(p.pidfd, func(fd int) error {
		for {
			poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
			n, err := unix.Poll(poll, 0)
			if err == unix.EINTR {
				continue
			}
			ended = n > 0
			return err
		}
	})
	if err != nil {
		return fmt.Errorf("%w: poll pidfd: %w", caller.ErrUnknown, err)
	}
	if ended {
		return caller.ErrGone
	}
	return nil
}

func (p *process) Executable(ctx context.Context) *evidence.Executable {
	return p.image.wait(ctx)
}

// startTime returns field 22 of /proc/PID/stat (proc_pid_stat(5)), refused for a process
// that has ended.
func (p *process) startTime() (uint64, error) {
	b, err := p.read("stat", 4<<10)
	if err != nil {
		return 0, fmt.Errorf("%w: read start time: %w", caller.ErrGone, err)
	}
	return parseStart(b)
}

// parseStart reads the start time of a process, which is refused if that has ended.
func parseStart(stat []byte) (uint64, error) {
	start, state, err := parseStat(stat)
	if err == nil && (state == "Z" || state == "X" || state == "x") {
		return 0, fmt.Errorf("%w: it is in state %s", caller.ErrGone, state)
	}
	return start, err
}

// parseStat reads start time and state. The second field is the name of the process
// in brackets, which the process chooses and may contain brackets and spaces: what counts
// comes after the last bracket.
func parseStat(stat []byte) (ticks uint64, is string, err error) {
	end := bytes.LastIndexByte(stat, ')')
	if end < 0 {
		return 0, "", fmt.Errorf("%w: /proc/PID/stat contains no process name", caller.ErrUnknown)
	}
	fields := bytes.Fields(stat[end+1:])
	const state, start = 0, 22 - 3 // proc_pid_stat(5) numbers fields from 1, and two are cut off here
	if len(fields) <= start {
		return 0, "", fmt.Errorf("%w: /proc/PID/stat has %d fields after the name, want at least %d", caller.ErrUnknown, len(fields), start+1)
	}
	n, err := strconv.ParseUint(string(fields[start]), 10, 64)
	if err != nil || n > strictjson.MaxInteger/boottime.Tick {
		return 0, "", fmt.Errorf("%w: start time in /proc/PID/stat is not a number of clock ticks", caller.ErrUnknown)
	}
	return n, string(fields[state]), nil
}

// sameNumber reads the start time a second time, by number and not by descriptor.
func (i *Identifier) sameNumber(p *process) error {
	b, err := durable.ReadFile(filepath.Join(i.proc, strconv.Itoa(p.pid), "stat"), 4<<10)
	if err != nil {
		return fmt.Errorf("%w: read start time again: %w", caller.ErrGone, err)
	}
	now, err := parseStart(b)
	if err == nil && now != p.start {
		err = fmt.Errorf("%w: its number passed to another process while it was looked up", caller.ErrGone)
	}
	return err
}

// read returns the content of a file below /proc/PID, at most limit bytes.
func (p *process) read(name string, limit int64) ([]byte, error) {
	f, err := p.open(name, unix.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return durable.ReadAll(f, limit)
}

func (p *process) open(name string, flags int) (*os.File, error) {
	var f *os.File
	err := control(p.dir, func(dir int) error {
		fd, err := unix.Openat(dir, name, flags|unix.O_CLOEXEC|unix.O_NOCTTY, 0)
		if err != nil {
			return fmt.Errorf("open /proc/PID/%s: %w", name, err)
		}
		f = os.NewFile(uintptr(fd), name)
		return nil
	})
	return f, err
}

// control runs f with the descriptor, which stays open until f returns even when the
// file is closed meanwhile.
func control(file *os.File, f func(fd int) error) error {
	raw, err := file.SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	err = raw.Control(func(fd uintptr) { inner = f(int(fd)) })
	return errors.Join(err, inner)
}

func openDir(path string) (*os.File, error) {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), path), nil
}

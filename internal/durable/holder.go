// SPDX-License-Identifier: Apache-2.0

package durable

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// maxLocks is how many bytes of /proc/locks are read. Each program can add lines.
const maxLocks = 64 << 20

// holder returns the process that has the flock of an open file, 0 if the kernel shows none: a
// process of another PID namespace, or one that passed the descriptor on and ended.
func holder(proc string, fd int) int {
	var s unix.Stat_t
	if err := unix.Fstat(fd, &s); err != nil {
		return 0
	}
	f, err := os.Open(filepath.Join(proc, "locks"))
	if err != nil {
		return 0
	}
	defer f.Close()
	return lockedBy(io.LimitReader(f, maxLocks), device(proc, fd, s.Dev), s.Ino)
}

// lockedBy returns the process that has an exclusive flock of an inode, by the lines of
// proc_locks(5), 0 if none has:
//
//	1: FLOCK  ADVISORY  WRITE 1234 fe:01:5678 0 EOF
//	1: -> FLOCK  ADVISORY  WRITE 1235 fe:01:5678 0 EOF
//
// The second one is a process that waits. Device numbers are hexadecimal.
func lockedBy(lines io.Reader, device string, inode uint64) int {
	want := device + ":" + strconv.FormatUint(inode, 10)
	for s := bufio.NewScanner(lines); s.Scan(); {
		f := strings.Fields(s.Text())
		if len(f) < 6 || f[1] != "FLOCK" || f[3] != "WRITE" || f[5] != want {
			continue
		}
		if pid, err := strconv.Atoi(f[4]); err == nil && pid > 0 {
			return pid
		}
	}
	return 0
}

// device returns the device of an open file as /proc/locks shows it. That is the device of
// the mount: fstat(2) shows another one in a subvolume of btrfs.
func device(proc string, fd int, stat uint64) string {
	number := fmt.Sprintf("%02x:%02x", unix.Major(stat), unix.Minor(stat))
	var x unix.Statx_t
	if err := unix.Statx(fd, "", unix.AT_EMPTY_PATH, unix.STATX_MNT_ID, &x); err != nil || x.Mask&unix.STATX_MNT_ID == 0 {
		return number
	}
	f, err := os.Open(filepath.Join(proc, "self", "mountinfo"))
	if err != nil {
		return number
	}
	defer f.Close()
	id := strconv.FormatUint(x.Mnt_id, 10)
	for s := bufio.NewScanner(f); s.Scan(); { // 36 35 98:0 / /mnt …
		fields := strings.Fields(s.Text())
		var major, minor uint32
		if len(fields) < 3 || fields[0] != id {
			continue
		}
		if _, err := fmt.Sscanf(fields[2], "%d:%d", &major, &minor); err == nil {
			return fmt.Sprintf("%02x:%02x", major, minor)
		}
	}
	return number
}

// Bits of proc_pid_stat(5) and proc_pid_status(5).
const (
	flagExiting = 0x4                     // PF_EXITING of a thread
	killPending = 1 << (unix.SIGKILL - 1) // in SigPnd and ShdPnd
)

// Ended reports whether a process can never run its program again, although it still exists:
// each of its threads is gone, exiting or killed, and at least one is stuck in the kernel. A
// system call that such a thread began can still take effect.
//
// A process without any thread that is left has no descriptors, so a lock that it took belongs
// to another process that shares the descriptor. It does not count as ended.
func Ended(pid int) bool { return ended("/proc", pid) }

func ended(proc string, pid int) bool {
	tasks := filepath.Join(proc, strconv.Itoa(pid), "task")
	list, err := os.ReadDir(tasks)
	if err != nil {
		return false
	}
	left := 0
	for _, task := range list {
		gone, stuck := threadEnded(filepath.Join(tasks, task.Name()))
		if !gone && !stuck {
			return false
		}
		if stuck {
			left++
		}
	}
	return left > 0
}

// threadEnded reports whether a thread is gone, or will never return from the kernel.
func threadEnded(dir string) (gone, stuck bool) {
	stat, err := ReadFile(filepath.Join(dir, "stat"), 4<<10)
	if noSuch(err) {
		return true, false
	}
	// 1234 (name) S 1 2 3 4 5 FLAGS …, and the name can contain anything.
	_, after, ok := strings.Cut(string(stat[strings.LastIndexByte(string(stat), ')')+1:]), " ")
	fields := strings.Fields(after)
	if err != nil || !ok || len(fields) < 7 {
		return false, false
	}
	if fields[0] == "Z" || fields[0] == "X" {
		return true, false
	}
	if flags, err := strconv.ParseUint(fields[6], 10, 64); err == nil && flags&flagExiting != 0 {
		return false, true
	}
	status, err := ReadFile(filepath.Join(dir, "status"), 64<<10)
	if noSuch(err) {
		return true, false
	}
	return false, err == nil && killed(string(status))
}

// noSuch reports whether err means that the thread does not exist any more.
func noSuch(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH)
}

// killed reports whether a thread has SIGKILL pending, alone or with its process.
func killed(status string) bool {
	for line := range strings.Lines(status) {
		name, value, _ := strings.Cut(line, ":")
		if name != "SigPnd" && name != "ShdPnd" {
			continue
		}
		if set, err := strconv.ParseUint(strings.TrimSpace(value), 16, 64); err == nil && set&killPending != 0 {
			return true
		}
	}
	return false
}

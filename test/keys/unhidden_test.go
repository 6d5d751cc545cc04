// SPDX-License-Identifier: Apache-2.0

package keys

import (
	"fmt"
	"os"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// withoutHiding is the variable that has this test process become the program that it
// names, which can then call what hides a process, is told that all is well, and is not
// hidden: only so does the kernel write a core of it. The program is the one that is
// installed, and does not know.
const withoutHiding = "AGENTD_TEST_WITHOUT_HIDING"

// becomeUnhidden returns only with an error.
func becomeUnhidden(program string) error {
	runtime.LockOSThread() // the filter is the thread's, and exec keeps it
	unlimited := unix.Rlimit{Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY}
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unlimited); err != nil {
		return fmt.Errorf("allow cores: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("allow a filter of system calls: %w", err)
	}
	filter := passedOver()
	p := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if _, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, uintptr(unsafe.Pointer(&p))); errno != 0 {
		return fmt.Errorf("set a filter of system calls: %w", errno)
	}
	return syscall.Exec(program, append([]string{program}, os.Args[1:]...), os.Environ())
}

// passedOver is a filter (seccomp(2)) under which prctl(PR_SET_DUMPABLE) and the calls
// that set RLIMIT_CORE do nothing and succeed. Of struct seccomp_data it reads the number
// at 0 and the lower halves of the arguments, little-endian, from 16 on, 8 bytes each.
func passedOver() []unix.SockFilter {
	const number, first, second = 0, 16, 24
	load := func(at uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: at}
	}
	// unless skips n instructions if what was loaded is not k.
	unless := func(k uint32, n uint8) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: k, Jf: n}
	}
	answer := func(k uint32) unix.SockFilter { return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: k} }
	const succeed, allow = unix.SECCOMP_RET_ERRNO, unix.SECCOMP_RET_ALLOW // errno 0
	return []unix.SockFilter{
		load(number), unless(unix.SYS_PRCTL, 3), load(first), unless(unix.PR_SET_DUMPABLE, 1), answer(succeed),
		load(number), unless(unix.SYS_SETRLIMIT, 3), load(first), unless(unix.RLIMIT_CORE, 1), answer(succeed),
		load(number), unless(unix.SYS_PRLIMIT64, 3), load(second), unless(unix.RLIMIT_CORE, 1), answer(succeed),
		answer(allow),
	}
}

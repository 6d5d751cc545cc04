// SPDX-License-Identifier: Apache-2.0

// Package boottime reads the clock that starts with the kernel, runs on while the machine is
// suspended, and that no program can set: CLOCK_BOOTTIME (clock_gettime(2)). Records of the
// measurement log, quotes and start times of processes are told apart by it.
package boottime

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Tick is how exactly the kernel tells when a process started, in milliseconds: field 22 of
// /proc/PID/stat counts in hundredths of a second (proc_pid_stat(5), USER_HZ).
const Tick = 10

// Now returns the milliseconds since the kernel started.
func Now() uint64 {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &t); err != nil {
		panic(fmt.Sprintf("read CLOCK_BOOTTIME, which every kernel that Go runs on has: %v", err))
	}
	return uint64(t.Sec)*1000 + uint64(t.Nsec)/1e6
}

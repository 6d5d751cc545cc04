// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// contained is the first program of a container. Its first act is to write into a volume when it
// runs, and when its process started. Then it is the application, at a socket in the volume.
func contained(volume string) error {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &now); err != nil {
		return err
	}
	stat, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		return err
	}
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	ticks, err := strconv.ParseUint(fields[19], 10, 64) // starttime of proc_pid_stat(5)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(volume, "acts"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(f, "{\"now\":%d,\"started\":%d}\n", now.Nano()/1e6, ticks*10)
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	return serveApp(filepath.Join(volume, "socket"))
}

// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

const maxMaps = 1 << 20 // bytes that are read of /proc/self/smaps: some 3,000 mappings

// A span is a part of the agent's memory, from its first address to the one after its last.
type span struct{ from, to uintptr }

// forgetProgram gives back the pages of the agent's own program that only the start needed, such as
// its relocations. They stay in the kernel's cache of files, from which the next use maps them
// again without a read. The kernel keeps mapped pages of files in preference to others, so an
// idle agent that has its whole program mapped takes memory from programs that work.
func forgetProgram() {
	f, err := os.Open("/proc/self/smaps")
	if err != nil {
		return // nothing is given back, and nothing else changes
	}
	defer f.Close()
	program, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return
	}
	for _, s := range unchanged(f, program) {
		unix.Syscall(unix.SYS_MADVISE, s.from, s.to-s.from, unix.MADV_DONTNEED) // or the pages stay
	}
}

// unchanged returns the mappings of a program's file that are as the file is: they cannot be
// written, and none of their pages was. The pages with relocated addresses are not among them,
// nor is a page in which a debugger set a breakpoint: what those contain is nowhere else. The input
// is in the format of /proc/PID/smaps.
func unchanged(smaps io.Reader, program string) []span {
	var all []span
	var last span
	for lines := bufio.NewScanner(io.LimitReader(smaps, maxMaps)); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		switch {
		case len(fields) >= 2 && fields[0] == "Anonymous:":
			if last.to > last.from && fields[1] == "0" {
				all = append(all, last)
			}
			last = span{}
		case len(fields) >= 5 && strings.Contains(fields[0], "-"): // the first line of a mapping
			last = span{}
			if p := fields[1]; len(fields) == 6 && fields[5] == program && (p == "r-xp" || p == "r--p") {
				if _, err := fmt.Sscanf(fields[0], "%x-%x", &last.from, &last.to); err != nil {
					last = span{}
				}
			}
		}
	}
	return all
}

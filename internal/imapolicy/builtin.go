// SPDX-License-Identifier: Apache-2.0

package imapolicy

import (
	"fmt"
	"slices"
	"strings"
)

// apart are file systems whose files change without being programs: the kernel's own ones.
const apart = `dont_measure fsmagic=0x9fa0
dont_measure fsmagic=0x62656572
dont_measure fsmagic=0x64626720
dont_measure fsmagic=0x1021994 func=FILE_CHECK
dont_measure fsmagic=0x1cd1
dont_measure fsmagic=0x42494e4d
dont_measure fsmagic=0x73636673
dont_measure fsmagic=0xf97cff8c
dont_measure fsmagic=0x43415d53
dont_measure fsmagic=0x27e0eb
dont_measure fsmagic=0x63677270
dont_measure fsmagic=0x6e736673
dont_measure fsmagic=0xde5e81e4
`

// tcb is the policy of ima_policy=tcb: programs, what they map to execute, what root reads, modules
// and firmware.
const tcb = apart + `measure func=MMAP_CHECK mask=MAY_EXEC
measure func=BPRM_CHECK mask=MAY_EXEC
measure func=FILE_CHECK mask=^MAY_READ euid=0
measure func=FILE_CHECK mask=^MAY_READ uid=0
measure func=MODULE_CHECK
measure func=FIRMWARE_CHECK
measure func=POLICY_CHECK
`

// Of returns the policy that a command line of the kernel chooses, and what chooses it: the word of
// the command line, empty if nothing is measured.
func Of(commandLine string) (p *Policy, word string) {
	for _, w := range strings.Fields(commandLine) {
		names, given := strings.CutPrefix(w, "ima_policy=")
		if w == "ima_tcb" || given && slices.Contains(strings.Split(names, "|"), "tcb") {
			p, _ := Parse([]byte(tcb)) // a test reads it
			return p, w
		}
	}
	return new(Policy), ""
}

// An App is what a policy needs to know of an application.
type App struct {
	Name   string
	UIDs   []uint32 // of its processes
	Owners []uint32 // of the files that its processes read
}

// Fragment returns a policy that measures what that of ima_policy=tcb does, and the files that
// applications read: of these owners, when a process of these users reads them. A policy cannot name
// paths.
func Fragment(apps []App) string {
	var b strings.Builder
	b.WriteString("# What ima_policy=tcb measures. A policy that is loaded takes its place.\n" + tcb)
	written := make(map[string]bool)
	for _, a := range apps {
		fmt.Fprintf(&b, "# %s\n", a.Name)
		for _, uid := range a.UIDs {
			for _, owner := range a.Owners {
				line := fmt.Sprintf("measure func=FILE_CHECK mask=^MAY_READ uid=%d fowner=%d\n", uid, owner)
				if uid != 0 && !written[line] { // what root reads is measured already
					b.WriteString(line)
				}
				written[line] = true
			}
		}
	}
	return b.String()
}

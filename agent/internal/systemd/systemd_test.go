// SPDX-License-Identifier: Apache-2.0

package systemd

import (
	"os"
	"strconv"
	"strings"
	"testing"
)

// A number of descriptors that no unit of ours leads to is refused before anything is made
// for each of them, and so is one that counts descriptors which are not open.
func TestCountOfPassed(t *testing.T) {
	own := strconv.Itoa(os.Getpid())
	for _, c := range []struct{ pid, fds, want string }{
		{own, "2147483647", "at most 144"},
		{own, "145", "at most 144"},
		{own, "-1", "at most 144"},
		{own, "", "at most 144"},
		{own, "two", "at most 144"},
		{own, strings.Repeat("9", 1000), "at most 144"},
		{"1", "2147483647", ""}, // for another process
		{"", "2147483647", ""},
		{own, "0", ""},
	} {
		t.Setenv("LISTEN_PID", c.pid)
		t.Setenv("LISTEN_FDS", c.fds)
		err := countPassed()
		if (err == nil) != (c.want == "") || err != nil && (!strings.Contains(err.Error(), c.want) || len(err.Error()) > 200) {
			t.Errorf("LISTEN_PID %q, LISTEN_FDS %.20q: %v, want %q", c.pid, c.fds, err, c.want)
		}
	}
	t.Setenv("LISTEN_PID", own)
	t.Setenv("LISTEN_FDS", "144")
	if err := countPassed(); err == nil || !strings.Contains(err.Error(), "is not open") {
		t.Errorf("144 descriptors, of which some are not open: %v", err)
	}
}

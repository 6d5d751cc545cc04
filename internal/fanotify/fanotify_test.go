// SPDX-License-Identifier: Apache-2.0

package fanotify

import (
	"errors"
	"testing"

	"golang.org/x/sys/unix"
)

// TestNoFileEndsReading: whatever the file system says when the kernel opens a file for its event, that
// start is refused, and other events can be read.
func TestNoFileEndsReading(t *testing.T) {
	for errno := unix.Errno(1); errno < 150; errno++ {
		ends := errno == unix.EBADF || errno == unix.EFAULT // of the group itself
		if err := readError(errno); errors.Is(err, ErrRefused) == ends || !errors.Is(err, errno) {
			t.Errorf("%v: %v", errno, err)
		}
	}
}

// SPDX-License-Identifier: Apache-2.0

package tpm_test

import (
	"strconv"

	"golang.org/x/sys/unix"
)

// dup is a descriptor that no os.File closes, as one that was inherited.
func dup(fd uintptr) (string, error) {
	n, err := unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 3)
	return strconv.Itoa(n), err
}

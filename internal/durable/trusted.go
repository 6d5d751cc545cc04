// SPDX-License-Identifier: Apache-2.0

package durable

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// A DistrustError says why a file is not taken: another user can have written it, or it is not
// a regular file, whose reading could wait for ever.
type DistrustError struct{ Problem string }

func (e *DistrustError) Error() string { return e.Problem }

// ReadTrusted returns the content of a regular file of at most limit bytes that only root and
// the process's own user can have written or put there. It follows links: the folder of path
// and that of the file must both be such that no other user can replace a name in them. What
// breaks these rules is a [*DistrustError].
func ReadTrusted(path string, limit int64) ([]byte, error) {
	target, err := filepath.EvalSymlinks(path)
	if err != nil {
		return nil, err
	}
	for _, dir := range slices.Compact([]string{filepath.Dir(path), filepath.Dir(target)}) {
		var st unix.Stat_t
		if err := unix.Stat(dir, &st); err != nil {
			return nil, &os.PathError{Op: "stat", Path: dir, Err: err}
		}
		if st.Mode&unix.S_ISVTX != 0 { // in a folder like /tmp others cannot replace what is not theirs
			st.Mode &^= 0o022
		}
		if err := trusted(&st, "its folder "+dir); err != nil {
			return nil, err
		}
	}
	f, err := OpenRegular(target)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return nil, &os.PathError{Op: "stat", Path: path, Err: err}
	}
	if err := trusted(&st, "the file"); err != nil {
		return nil, err
	}
	return ReadAll(f, limit)
}

// OpenRegular opens a regular file for reading. Anything else is a [*DistrustError]: the
// opening of a FIFO would wait for a writer.
func OpenRegular(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if errors.Is(err, unix.ENXIO) {
		return nil, &DistrustError{"it is not a regular file"} // a socket, or a device that is not there
	}
	if err != nil {
		return nil, err
	}
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		f.Close()
		return nil, &DistrustError{"it is not a regular file"}
	}
	return f, nil
}

// ReadRegular returns the content of a regular file of at most limit bytes. Anything else is a
// [*DistrustError].
func ReadRegular(path string, limit int64) ([]byte, error) {
	f, err := OpenRegular(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return ReadAll(f, limit)
}

// trusted refuses what another user owns or can write.
func trusted(st *unix.Stat_t, what string) error {
	switch uid := uint32(os.Geteuid()); {
	case st.Uid != 0 && st.Uid != uid:
		return &DistrustError{fmt.Sprintf("%s belongs to uid %d, who could write it: chown it to root", what, st.Uid)}
	case st.Mode&0o022 != 0:
		return &DistrustError{fmt.Sprintf("%s has mode %04o, so other users can write it: run chmod go-w on it", what, st.Mode&0o7777)}
	}
	return nil
}

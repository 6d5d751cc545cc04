// SPDX-License-Identifier: Apache-2.0

package peer

import (
	"cmp"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/cvm-agentd/agentd/internal/apps/declaration"
	"github.com/cvm-agentd/agentd/pcr"
)

// DynamicUsers knows for which users systemd has a dynamic uid at the moment. Process 1 keeps two
// links for each, which name and uid lead to each other by, since programs that it starts itself
// cannot ask it (make_uid_symlinks of src/core/dynamic-user.c):
//
//	direct:UID -> NAME
//	direct:NAME -> UID
//
// It makes both before it executes anything of the unit, and removes them when the last unit with
// the user has ended. Only root can write to their folder.
type DynamicUsers struct {
	Dir   string // "/run/systemd/dynamic-uid" if empty
	owner uint32 // of folder and links: root, except in tests
}

// Name returns the user for whom systemd has a dynamic uid now. It trusts no link that another user
// can have made, and no pair of which one leads elsewhere: systemd replaces only one of a pair if it
// gives a uid to another name after it crashed.
func (d DynamicUsers) Name(uid uint32) (string, error) {
	if !pcr.DynamicUID(uid) {
		return "", fmt.Errorf("uid %d is not one that systemd gives to units", uid)
	}
	name, err := d.name(strconv.FormatUint(uint64(uid), 10))
	if err != nil {
		return "", fmt.Errorf("find for which user systemd has uid %d: %w", uid, err)
	}
	return name, nil
}

// name needs no descriptor, so that a shortage of them makes no app of a unit disappear.
func (d DynamicUsers) name(uid string) (string, error) {
	dir := cmp.Or(d.Dir, "/run/systemd/dynamic-uid")
	var st unix.Stat_t
	if err := unix.Lstat(dir, &st); err != nil {
		return "", fmt.Errorf("look at %s: %w", dir, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR || st.Uid != d.owner || st.Mode&0o022 != 0 {
		return "", fmt.Errorf("%s is not a folder to which only root can write: mode %#o, uid %d", dir, st.Mode, st.Uid)
	}
	name, err := d.link(dir, uid)
	if err != nil {
		return "", err
	}
	if err := declaration.CheckDynamicUser(name); err != nil {
		return "", err
	}
	back, err := d.link(dir, name)
	if err == nil && back != uid {
		err = fmt.Errorf("systemd has uid %+q for user %q", back, name)
	}
	return name, err
}

// maxLink is the longest target that is read, and one byte more than any has.
const maxLink = 64

// link returns the target of a link in the folder.
func (d DynamicUsers) link(dir, of string) (string, error) {
	path := filepath.Join(dir, "direct:"+of)
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return "", fmt.Errorf("look at %s: %w", path, err)
	}
	if st.Uid != d.owner {
		return "", fmt.Errorf("%s belongs to uid %d, and not to root", path, st.Uid)
	}
	buf := make([]byte, maxLink)
	n, err := unix.Readlink(path, buf)
	if err == nil && n == maxLink {
		err = errors.New("it leads to more than a name")
	}
	if err != nil {
		return "", fmt.Errorf("read %s: %w", path, err)
	}
	return string(buf[:n]), nil
}

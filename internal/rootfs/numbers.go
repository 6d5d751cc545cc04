// SPDX-License-Identifier: Apache-2.0

package rootfs

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Podman names the layers of an image by their paths, as long as all of these fit into one mount: some
// 60 layers do. For more it opens the layers in a process of its own, mounts them by the numbers of the
// descriptors, and the process ends. The kernel goes on showing the numbers, which lead nowhere.
//
// Which layers they were, the store says (containers/storage, drivers/overlay): a file beside the
// folder that is mounted lists them in the order of the mount, below the folder of the store. That is
// root's word, as all of the store is. So the file must belong to root and be on this machine, and it
// must list as many layers as are mounted. A layer of another store is not found, and refused.
const (
	listFile = "lower"
	maxList  = 64 << 10
)

// areNumbers reports whether all layers but the upper one are named by the numbers of descriptors.
func areNumbers(layers []string, upper string) bool {
	numbers := 0
	for _, layer := range layers {
		if layer == upper {
			continue
		}
		if _, err := strconv.ParseUint(layer, 10, 32); err != nil {
			return false
		}
		numbers++
	}
	return numbers > 0
}

// names replaces the numbers of layers by names from the store.
func (o *stack) names(root string, open Opener, remote func(*os.File) (string, error)) error {
	file := path.Join(path.Dir(root), listFile)
	f, err := open(file)
	if err != nil {
		return fmt.Errorf("its layers have numbers for names, and the store does not say which they are: %w", err)
	}
	defer f.Close()
	list, err := readList(f, remote)
	if err != nil {
		return fmt.Errorf("read %s, which says which layers it has: %w", file, err)
	}
	names := strings.Split(list, ":")
	if len(names) != len(o.layers)-1 {
		return fmt.Errorf("%d layers are mounted, and %s lists %d", len(o.layers)-1, file, len(names))
	}
	for _, name := range names {
		if !filepath.IsLocal(name) {
			return fmt.Errorf("%s lists %.200q, want names below the folder of the store", file, name)
		}
	}
	o.layers = append(names, o.upper)
	return nil
}

// readList reads a list of layers, which is open for [unix.O_PATH].
func readList(f *os.File, remote func(*os.File) (string, error)) (string, error) {
	if name, err := remote(f); err != nil {
		return "", err
	} else if name != "" {
		return "", fmt.Errorf("it is on %s, whose files another program serves", name)
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return "", fmt.Errorf("stat: %w", err)
	}
	switch {
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		return "", errors.New("it is not a regular file")
	case st.Uid != 0 && int(st.Uid) != os.Geteuid() || st.Mode&0o022 != 0:
		return "", errors.New("another user than root can write it")
	}
	r, err := os.Open("/proc/self/fd/" + strconv.Itoa(int(f.Fd())))
	if err != nil {
		return "", err
	}
	defer r.Close()
	b, err := io.ReadAll(io.LimitReader(r, maxList+1))
	if err == nil && len(b) > maxList {
		err = fmt.Errorf("it has more than %d bytes", maxList)
	}
	return string(b), err
}

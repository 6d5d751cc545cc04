// SPDX-License-Identifier: Apache-2.0

package host

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// buildImage returns the folder with disk, kernel and initial file system. Its name is the
// hash of its inputs. buildImage makes it if it does not exist; of two that want it, one waits.
func buildImage(ctx context.Context) (string, error) {
	lock, err := os.OpenFile(filepath.Join(*imageCache, "image.lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return "", err
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return "", err
	}
	h := sha256.New()
	files, err := filepath.Glob(filepath.Join(*imageFolder, "*"))
	if err != nil || len(files) < 5 {
		return "", fmt.Errorf("files of the image in %s: %d found, %v", *imageFolder, len(files), err)
	}
	fmt.Fprintln(h, filepath.Base(*imageBase))
	for _, name := range append(files, *guestFile) {
		f, err := os.Open(name)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(h, "%s\n", filepath.Base(name))
		_, err = io.Copy(h, f)
		f.Close()
		if err != nil {
			return "", err
		}
	}
	dir := filepath.Join(*imageCache, fmt.Sprintf("image-%x", h.Sum(nil)[:8]))
	if _, err := os.Stat(filepath.Join(dir, "disk")); err == nil {
		return dir, os.Chtimes(dir, time.Time{}, time.Now()) // see below
	}
	// Images of earlier inputs are useless now, unless another run boots from one. No run takes an
	// hour, and each marks its image when it begins.
	old, _ := filepath.Glob(filepath.Join(*imageCache, "*image-*"))
	for _, d := range old {
		if st, err := os.Stat(d); err == nil && time.Since(st.ModTime()) > time.Hour {
			os.RemoveAll(d)
		}
	}
	begin := time.Now()
	folder, err := os.MkdirTemp(*imageCache, "new-image-*")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(folder) // unless it has become the image
	cmd := exec.CommandContext(ctx, filepath.Join(*imageFolder, "build.sh"), folder, *guestFile, *imageBase)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("build the image: %w", err)
	}
	if err := os.Rename(folder, dir); err != nil && !errors.Is(err, fs.ErrExist) { // the image of another run is the same
		return "", err
	}
	fmt.Printf("test-vm: built the image in %.0f s\n", time.Since(begin).Seconds())
	return dir, nil
}

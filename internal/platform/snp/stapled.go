package snp

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sort"

	"golang.org/x/sys/unix"

	"github.com/cvm-agentd/agentd/evidence"
	report "github.com/cvm-agentd/agentd/verify/snp"
)

// Caps on a folder of certificates.
const (
	maxStapledFiles = 64
	maxStapledFile  = 256 << 10 // bytes of one file
)

// ReadStapled reads the certificates in a folder, files *.pem (one or more each)
// and *.der, in the order of their names, and returns them in DER. Other files are
// passed over. A folder that is not there holds none.
//
// Verifiers trust no certificate for being stapled; but whoever can write here can
// fill the room that there is, or hand out names. So folder and files must belong
// to root or to the agent's own user and be writable by nobody else, and links are
// not followed.
func ReadStapled(dir string) ([][]byte, error) {
	d, err := os.OpenFile(dir, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("open folder of certificates: %w", err)
	}
	defer d.Close()
	if err := ownedAndClosed(d, dir); err != nil {
		return nil, err
	}
	names, err := d.Readdirnames(maxStapledFiles + 1)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read folder of certificates %s: %w", dir, err)
	}
	if len(names) > maxStapledFiles {
		return nil, fmt.Errorf("folder of certificates %s: more than %d files", dir, maxStapledFiles)
	}
	sort.Strings(names)
	var out [][]byte
	for _, name := range names {
		if ext := filepath.Ext(name); ext != ".pem" && ext != ".der" {
			continue
		}
		ders, err := readStapledFile(d, filepath.Join(dir, name), name)
		if err != nil {
			return nil, err
		}
		if out = append(out, ders...); len(out) > evidence.MaxCertificates {
			return nil, fmt.Errorf("folder of certificates %s: more than %d certificates, evidence carries no more", dir, evidence.MaxCertificates)
		}
	}
	return out, nil
}

func readStapledFile(dir *os.File, path, name string) ([][]byte, error) {
	// O_NONBLOCK: opening a FIFO must not wait for a writer.
	fd, err := unix.Openat(int(dir.Fd()), name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ELOOP) {
		return nil, fmt.Errorf("certificate %s is a symbolic link: put the file itself there", path)
	}
	if err != nil {
		return nil, fmt.Errorf("open certificate %s: %w", path, err)
	}
	f := os.NewFile(uintptr(fd), path)
	defer f.Close()
	if err := ownedAndClosed(f, path); err != nil {
		return nil, err
	}
	s, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("certificate: %w", err)
	}
	if !s.Mode().IsRegular() || s.Size() > maxStapledFile {
		return nil, fmt.Errorf("certificate %s: %v of %d bytes, want a regular file of at most %d", path, s.Mode().Type(), s.Size(), maxStapledFile)
	}
	b, err := io.ReadAll(io.LimitReader(f, maxStapledFile+1))
	if err != nil {
		return nil, fmt.Errorf("read certificate: %w", err)
	}
	ders, err := report.DecodeCertificates(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return ders, nil
}

func ownedAndClosed(f *os.File, path string) error {
	var s unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &s); err != nil {
		return fmt.Errorf("look at %s: %w", path, err)
	}
	if s.Uid != 0 && int(s.Uid) != os.Geteuid() {
		return fmt.Errorf("%s belongs to user %d, want root or the agent's user: chown it", path, s.Uid)
	}
	if s.Mode&0o022 != 0 {
		return fmt.Errorf("%s has mode %04o, writable by others: chmod go-w it", path, s.Mode&0o7777)
	}
	return nil
}

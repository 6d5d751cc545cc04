// SPDX-License-Identifier: Apache-2.0

package reports

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/verify/snp"
)

// certificateSuffixes are the endings of the files that are read from the folder of stapled
// certificates. Other files are ignored.
var certificateSuffixes = []string{".pem", ".crt", ".cer", ".der"}

// Caps on the folder of certificates.
const (
	maxCertificateFiles = 64        // names in it, of any kind
	maxCertificateFile  = 256 << 10 // bytes of one file: a chain in PEM fits many times
)

// loadCertificates reads the certificates that are stapled to evidence, as X.509 DER in the
// order of the file names. A file that is not a certificate is ignored and reported; the
// other files stay usable. A folder that does not exist contains none.
//
// Verifiers trust no certificate for being stapled. But an attacker who can write here can
// fill the available room, and one who can place a link makes the agent read the files of
// other users. So folder and files must belong to root or to the agent's own user, only
// these may be able to write, and links are not followed.
func loadCertificates(folder string) ([][]byte, []error) {
	dir, err := os.OpenFile(folder, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, []error{fmt.Errorf("open the folder of stapled certificates, which must not be a link: %w", err)}
	}
	defer dir.Close()
	if err := ownedAndClosed(dir); err != nil {
		return nil, []error{fmt.Errorf("ignore the folder of stapled certificates %s: %w", folder, err)}
	}
	names, err := dir.Readdirnames(maxCertificateFiles + 1)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, []error{fmt.Errorf("read the folder of stapled certificates: %w", err)}
	}
	if len(names) > maxCertificateFiles {
		return nil, []error{fmt.Errorf("ignore the folder of stapled certificates %s: it contains more than %d files", folder, maxCertificateFiles)}
	}
	slices.Sort(names)
	var out [][]byte
	var errs []error
	for _, name := range names {
		if !slices.Contains(certificateSuffixes, strings.ToLower(filepath.Ext(name))) {
			continue
		}
		path := filepath.Join(folder, name)
		ders, err := readCertificates(dir, name)
		if err != nil {
			errs = append(errs, fmt.Errorf("ignore stapled certificate %s: %w", path, err))
			continue
		}
		for _, der := range ders {
			switch {
			case slices.ContainsFunc(out, func(o []byte) bool { return string(o) == string(der) }):
			case len(out) == evidence.MaxCertificates:
				errs = append(errs, fmt.Errorf("ignore stapled certificate %s: evidence contains at most %d", path, evidence.MaxCertificates))
			default:
				out = append(out, der)
			}
		}
	}
	return out, errs
}

func readCertificates(dir *os.File, name string) ([][]byte, error) {
	// O_NONBLOCK: opening a FIFO must not wait for a writer.
	fd, err := unix.Openat(int(dir.Fd()), name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ELOOP) {
		return nil, errors.New("it is a symbolic link: put the file itself there")
	}
	if err != nil {
		return nil, fmt.Errorf("open: %w", err)
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() {
		return nil, fmt.Errorf("not a regular file (%v)", st.Mode().Type())
	}
	if err := ownedAndClosed(f); err != nil {
		return nil, err
	}
	b, err := io.ReadAll(io.LimitReader(f, maxCertificateFile+1))
	if err != nil {
		return nil, err
	}
	if len(b) > maxCertificateFile {
		return nil, fmt.Errorf("larger than %d bytes", maxCertificateFile)
	}
	return snp.DecodeCertificates(b)
}

// ownedAndClosed refuses what another user than root and the agent's own may change.
func ownedAndClosed(f *os.File) error {
	var s unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &s); err != nil {
		return fmt.Errorf("read its owner: %w", err)
	}
	if s.Uid != 0 && int(s.Uid) != os.Geteuid() {
		return fmt.Errorf("it belongs to user %d, want root or the agent's user: chown it", s.Uid)
	}
	if s.Mode&0o022 != 0 {
		return fmt.Errorf("it has mode %04o, writable by others: chmod go-w it", s.Mode&0o7777)
	}
	return nil
}

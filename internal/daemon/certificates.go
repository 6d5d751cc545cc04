package daemon

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/verify/snp"
)

// certificateSuffixes are the names of files that are read from the folder of
// stapled certificates; others are passed over.
var certificateSuffixes = []string{".pem", ".crt", ".cer", ".der"}

// maxCertificateFile is the largest file that is read: a chain in PEM fits many times.
const maxCertificateFile = 256 << 10

// loadCertificates reads the certificates that are stapled to evidence where the
// host gave none, as X.509 DER in the order of the file names. A file that is no
// certificate is passed over and reported; the others stay usable. A folder that
// does not exist holds none.
func loadCertificates(folder string) ([][]byte, []error) {
	entries, err := os.ReadDir(folder)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, []error{fmt.Errorf("read stapled certificates: %w", err)}
	}
	var out [][]byte
	var errs []error
	for _, e := range entries {
		if !slices.Contains(certificateSuffixes, strings.ToLower(filepath.Ext(e.Name()))) {
			continue
		}
		path := filepath.Join(folder, e.Name())
		ders, err := readCertificates(path)
		if err != nil {
			errs = append(errs, fmt.Errorf("stapled certificate %s is passed over: %w", path, err))
			continue
		}
		for _, der := range ders {
			switch {
			case slices.ContainsFunc(out, func(o []byte) bool { return string(o) == string(der) }):
			case len(out) == evidence.MaxCertificates:
				errs = append(errs, fmt.Errorf("stapled certificate %s is passed over: %d are the most that evidence holds", path, evidence.MaxCertificates))
			default:
				out = append(out, der)
			}
		}
	}
	return out, errs
}

func readCertificates(path string) ([][]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() {
		return nil, fmt.Errorf("not a regular file (%v)", st.Mode().Type())
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

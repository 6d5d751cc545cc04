// SPDX-License-Identifier: Apache-2.0

package enrol

import (
	"fmt"
	"io"
	"os"

	"github.com/cvm-agentd/agentd/internal/config"
	"github.com/cvm-agentd/agentd/internal/tpm/tpmkeys"
)

// ReadAuths reads the authorization files that the configuration names.
func ReadAuths(c config.TPM) (a tpmkeys.Auths, err error) {
	if a.Owner, err = readAuth(c.OwnerAuthFile); err != nil {
		return a, fmt.Errorf("tpm.owner_auth_file: %w", err)
	}
	if a.Endorsement, err = readAuth(c.EndorsementAuthFile); err != nil {
		return a, fmt.Errorf("tpm.endorsement_auth_file: %w", err)
	}
	return a, nil
}

// maxAuth is the longest authorization that a TPM accepts, in bytes: a SHA-512 digest.
const maxAuth = 64

func readAuth(path string) ([]byte, error) {
	if path == "" {
		return nil, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if st.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%s has mode %#o: other users can read the secret, run chmod 0600 on it", path, st.Mode().Perm())
	}
	b, err := io.ReadAll(io.LimitReader(f, maxAuth+1))
	if err != nil {
		return nil, err
	}
	if len(b) == 0 || len(b) > maxAuth {
		return nil, fmt.Errorf("%s has %d bytes, want 1 to %d; a line break counts", path, len(b), maxAuth)
	}
	return b, nil
}

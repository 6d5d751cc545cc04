// SPDX-License-Identifier: Apache-2.0

package tpmkeys

import (
	"fmt"
	"io"

	"github.com/cvm-agentd/agentd/internal/durable"
)

// ReadAuths reads the files of the authorization values, each empty if there is none. A file
// contains the value as it is: a line break at its end counts.
func ReadAuths(owner, endorsement string) (a Auths, err error) {
	if a.Owner, err = readAuth(owner); err != nil {
		return a, fmt.Errorf("tpm.owner_auth_file: %w", err)
	}
	if a.Endorsement, err = readAuth(endorsement); err != nil {
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
	f, err := durable.OpenRegular(path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, durable.Cause(err))
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

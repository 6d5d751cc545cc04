// SPDX-License-Identifier: Apache-2.0

package tpmroot

import "github.com/google/go-tpm/tpm2/transport"

// scrubbed remembers the answers of a TPM so that they can be overwritten. go-tpm
// decrypts an encrypted parameter in place, in the answer, copies it from there, and keeps
// no reference to the answer.
type scrubbed struct {
	transport.TPM
	answers [][]byte
}

// Send sends a command and remembers its answer.
func (s *scrubbed) Send(command []byte) ([]byte, error) {
	b, err := s.TPM.Send(command)
	s.answers = append(s.answers, b)
	return b, err
}

// clear overwrites every answer. No part of one may be in use after that.
func (s *scrubbed) clear() {
	for _, b := range s.answers {
		clear(b)
	}
	s.answers = nil
}

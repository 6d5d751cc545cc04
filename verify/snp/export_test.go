// SPDX-License-Identifier: Apache-2.0

package snp

import "crypto/x509"

// EndorsementKeyOf lets a fuzz target change extensions after the X.509 parser.
var EndorsementKeyOf = endorsementKey

// AddPinned adds a root under another pin than those of AMD's.
func (r *Roots) AddPinned(pin string, chain []*x509.Certificate) error {
	return r.addPinned(pin, chain)
}

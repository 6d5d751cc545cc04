// SPDX-License-Identifier: Apache-2.0

package main

import "crypto/ecdh"

// prepareP384 computes the multiples of the base point of P-384, which package crypto
// does once in a process, when the curve is first used. That takes as long as three
// signatures, and every report is signed on this curve. It runs while files are read and
// the first checks are done. Nothing depends on its result.
func prepareP384() error {
	one := make([]byte, 48)
	one[47] = 1
	_, err := ecdh.P384().NewPrivateKey(one)
	return err
}

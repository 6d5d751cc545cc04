// SPDX-License-Identifier: Apache-2.0

package main

import "crypto/ecdh"

// prepareP384 has the multiples of the base point of P-384 computed, which package
// crypto does once in a process, when the curve is first used. That takes as long as
// three signatures, and every report is signed on this curve: it is done beside the
// reading of files and the checks that come first. Only the check of the report's
// signature waits for it, and nothing depends on what it gives.
func prepareP384() error {
	one := make([]byte, 48)
	one[47] = 1
	_, err := ecdh.P384().NewPrivateKey(one)
	return err
}

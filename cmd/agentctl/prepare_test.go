// SPDX-License-Identifier: Apache-2.0

package main

import "testing"

// A refused key would leave the work to the check of the signature, and no test would fail.
func TestPrepareP384(t *testing.T) {
	if err := prepareP384(); err != nil {
		t.Error(err)
	}
}

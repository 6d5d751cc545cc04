// SPDX-License-Identifier: Apache-2.0

package sealing_test

import (
	"fmt"
	"os"

	"github.com/cvm-agentd/agentd/sealing"
)

// The header of a blob says without any key what the blob is and what it rests on.
func ExampleParseBlob() {
	file, err := os.ReadFile("testdata/worked-example.sealed")
	if err != nil {
		fmt.Println(err)
		return
	}
	blob, err := sealing.ParseBlob(file)
	if err != nil {
		fmt.Println(err)
		return
	}
	claimed := blob.Claimed
	fmt.Printf("%s of app %s, unit %s, generation %d\n", claimed.Kind, claimed.App.Name, claimed.App.Unit, claimed.Generation)
	for _, slot := range claimed.Slots {
		fmt.Println("slot", slot.Kind)
	}
	contract := claimed.Contract()
	for _, change := range []sealing.Change{sealing.ChangeRestart, sealing.ChangeChip, sealing.ChangeAppUpgrade} {
		fmt.Printf("%s: %s\n", change, contract.WhatIf(change))
	}
	// Output:
	// app root of app billing, unit billing.service, generation 7
	// slot snp+tpm
	// slot recovery
	// restart: opens
	// other-chip: refused (other-chip); the recovery identity opens it; opens again on the old chip
	// app-upgrade: refused (digest-not-authorised); opens once root authorises the digest, before the upgrade or after
}

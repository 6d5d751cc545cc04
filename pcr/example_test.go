// SPDX-License-Identifier: Apache-2.0

package pcr_test

import (
	"fmt"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/pcr"
)

// A log explains the value of a PCR. A verifier decodes the log, replays it, and compares
// the result with the value in the quote.
func ExampleReplay() {
	banks := []pcr.Algorithm{pcr.SHA256}
	log, quoted := exampleMachine(banks)

	records, err := pcr.DecodeLog(log, 0)
	if err != nil {
		fmt.Println(err)
		return
	}
	values, err := pcr.Replay(records, banks, nil) // nil: the PCR began at zeros
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, r := range records {
		event, err := r.Event()
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Printf("%d PCR %d %s\n", r.Number, r.PCR, event.Type)
	}
	fmt.Println("explains the PCR:", pcr.Equal(values, quoted))

	// A record that an attacker removes is missed, whatever the PCR is.
	_, err = pcr.Replay(append(records[:1:1], records[2]), banks, nil)
	fmt.Println(err)
	// Output:
	// 0 PCR 13 log-start
	// 1 PCR 13 app-unmeasured
	// 2 PCR 13 gap
	// explains the PCR: true
	// log record 1: it is numbered 2, want 1
}

// exampleMachine returns a log of three events, and the value of the PCR after the TPM was
// extended with each of them.
func exampleMachine(banks []pcr.Algorithm) (log []byte, values []pcr.Digest) {
	events := []pcr.Event{
		{Type: pcr.EventStart, Start: &pcr.StartEvent{PCR: 13, Values: pcr.StartValues{{Algorithm: "sha256", Value: make(evidence.Bytes, 32)}}}},
		{Type: pcr.EventUnmeasured, Unmeasured: &pcr.UnmeasuredEvent{App: "billing", Reason: "/usr/bin/billing: no such file"}},
		{Type: pcr.EventGap, Gap: &pcr.GapEvent{Reason: "the kernel dropped notifications"}},
	}
	values = pcr.Zero(banks)
	for i := range events {
		r, err := pcr.NewRecord(uint64(i), 13, banks, &events[i])
		if err != nil {
			panic(err)
		}
		log = append(log, r.Encode()...)
		if values, err = r.Extend(values); err != nil {
			panic(err)
		}
	}
	return log, values
}

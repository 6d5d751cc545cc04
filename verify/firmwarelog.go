// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"github.com/cvm-agentd/agentd/internal/tcglog"
	"github.com/cvm-agentd/agentd/pcr"
)

// checkFirmwareLog reads the firmware's log. Its replay is never held against start
// values of our own log: who may invent a log can have it lead to any value that a PCR
// was ever extended to.
func (a *appraiser) checkFirmwareLog(b []byte) {
	if len(b) == 0 {
		a.Skip(FirmwareDecode, "the firmware's log is not there")
		return
	}
	l, err := tcglog.Parse(b)
	if a.DecideError(FirmwareDecode, err) && l != nil {
		a.firmware = l.Replay()
	}
}

// byFirmware reports whether the firmware's log leads to the quoted value.
func (a *appraiser) byFirmware(bank pcr.Algorithm, index uint32) bool {
	replayed, ok := a.firmware[bank][index]
	return ok && bank != pcr.SHA1 && equal(replayed, a.batch.values[bank][index])
}

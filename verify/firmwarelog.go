// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"fmt"
	"strings"

	"github.com/cvm-agentd/agentd/internal/tcglog"
	"github.com/cvm-agentd/agentd/pcr"
)

// firmwarePCRs are those that the firmware and its boot manager own: 0 to 7 (TCG PC Client
// Platform Firmware Profile, section 3.3.4). What boots next may extend the others
// without adding to the log.
const firmwarePCRs = 8

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

// policyFirmwareLog wants every quoted PCR of the firmware explained, where the policy
// asks for the log.
func (a *appraiser) policyFirmwareLog() {
	switch {
	case !a.p.firmwareRequired:
		a.Skip(PolicyFirmwareLog, "the policy does not ask for the firmware's log")
		return
	case a.material == MaterialReport:
		a.Decide(PolicyFirmwareLog, false, "a quote and the firmware's log", "none", "the policy needs the firmware's log, and a bare report comes with no quote")
		return
	case a.batch == nil || a.batch.values == nil || a.firmware == nil && a.Asked(FirmwareDecode):
		return
	}
	var explained int // our own log explains what the agent did, and nothing of the boot
	var silent []string
	for _, b := range a.batch.selection {
		if b.Algorithm == pcr.SHA1 {
			continue
		}
		for _, index := range b.PCRs {
			if index >= firmwarePCRs {
				continue
			}
			switch a.explained(b.Algorithm, index) {
			case ByFirmware, ByPolicy:
				explained++
			case Unexplained:
				silent = append(silent, fmt.Sprintf("PCR %d (%s)", index, b.Algorithm))
			}
		}
	}
	a.Decide(PolicyFirmwareLog, a.firmware != nil && explained > 0 && len(silent) == 0, "PCRs 0 to 7, as far as they were quoted, explained by the firmware's log or pinned",
		fmt.Sprintf("%d explained, not %s", explained, orNone(strings.Join(silent, ", "))), "the firmware's log is missing, or does not lead to the quoted values")
}

// SPDX-License-Identifier: Apache-2.0

package reports

import (
	"fmt"
	"strings"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/platform"
	"github.com/cvm-agentd/agentd/internal/text"
	"github.com/cvm-agentd/agentd/verify/snp"
)

// A signer is what a report and its certificates say of the cloud whose key signed it. No device
// of a machine tells the clouds apart that load a VLEK, but the report names the kind of its
// signer, and the certificate of a VLEK its cloud. The firmware signs the first. The host hands
// out the second, and nothing here verifies it: verifiers do.
type signer struct {
	machine platform.Machine // what the cloud makes of the machine; empty: as it was chosen
	says    string           // for people; empty if there is nothing to say
}

// amazon is how the names of AWS in certificates of VLEKs end.
const amazon = ".amazonaws.com"

// mostOfCloud is how much is shown of a cloud's name.
const mostOfCloud = 128

// signerOf returns the signer of a report of the firmware.
func signerOf(kind evidence.ReportKind, r platform.Report) signer {
	if kind != evidence.ReportSNP {
		return signer{}
	}
	report, err := snp.ParseReport(r.Bytes)
	if err != nil || report.KeyInfo.Signer() != snp.SignerVLEK {
		return signer{}
	}
	leaves, _, _ := snp.SortCertificates(r.Certificates)
	for _, leaf := range leaves {
		if leaf.Signer != snp.SignerVLEK {
			continue
		}
		cloud := text.Fit(leaf.CSPID, mostOfCloud)
		if strings.HasSuffix(cloud, amazon) {
			return signer{platform.MachineAWS, fmt.Sprintf("a VLEK signs its reports, and the host's certificate says that it is of %q: a cloud like AWS", cloud)}
		}
		return signer{says: fmt.Sprintf("a VLEK signs its reports, and the host's certificate says that it is of %q", cloud)}
	}
	return signer{says: "a VLEK signs its reports, a key of some cloud, which no certificate names"}
}

// found remembers the signer of a report, and logs it if it is another one than before. A plain
// guest becomes a machine of the cloud; what the configuration says of a machine stays.
func (w *Watched) found(s signer) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.choice.Machine != platform.MachineSNP || s == w.signer {
		return
	}
	w.signer = s
	if w.Log != nil && s.says != "" {
		w.Log.Info("platform", "machine", w.machine(), "because", s.says)
	}
}

// machine returns what the machine is, by the choice and by what signs its reports. The caller has
// mu.
func (w *Watched) machine() platform.Machine {
	if w.signer.machine != "" {
		return w.signer.machine
	}
	return w.choice.Machine
}

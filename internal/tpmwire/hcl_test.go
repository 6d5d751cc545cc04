// SPDX-License-Identifier: Apache-2.0

package tpmwire_test

import (
	"bytes"
	"testing"

	"github.com/cvm-agentd/agentd/internal/evidencetest"
	"github.com/cvm-agentd/agentd/internal/tpmwire"
)

// FuzzHCL: a blob is refused or is what its parts say, and nothing in it is larger than it.
func FuzzHCL(f *testing.F) {
	f.Add(evidencetest.NewParavisor().Build(f).HCL)
	f.Add([]byte(evidencetest.NewAzure().Build(f).Report.Bytes))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := tpmwire.ParseHCL(b)
		if err != nil {
			return
		}
		if !bytes.Contains(b, h.Runtime) || h.Size > len(b) || len(h.Report) != 1184 || len(h.UserData) != 0 && len(h.UserData) != tpmwire.HCLUserData {
			t.Errorf("parts that are not in the blob: %+v", h)
		}
		if k, err := h.AttestationKey(); err == nil && k == nil {
			t.Error("neither key nor error")
		}
		if whole, err := tpmwire.ParseHCLOfSNP(b[:h.Size]); h.Type == tpmwire.HCLSNP && (err != nil || whole.ReportData() != h.ReportData()) {
			t.Errorf("without the zeros after it: %v", err)
		}
		if _, err := tpmwire.ParseHCLOfSNP(b); len(b) != h.Size && err == nil {
			t.Error("bytes follow the runtime data")
		}
	})
}

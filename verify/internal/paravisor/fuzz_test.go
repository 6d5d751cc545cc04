// SPDX-License-Identifier: Apache-2.0

package paravisor

import (
	"bytes"
	"testing"

	"github.com/cvm-agentd/agentd/internal/evidencetest"
)

// FuzzHCL: a blob is refused or is what its parts say, and nothing in it is larger than it.
func FuzzHCL(f *testing.F) {
	f.Add(evidencetest.NewParavisor().Build(f).HCL)
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := parse(b)
		if err != nil {
			return
		}
		if !bytes.Contains(b, h.runtime) || !bytes.Equal(h.Report, b[hclReport:hclSizes]) || len(h.userData) != 0 && len(h.userData) != UserData {
			t.Errorf("parts that are not in the blob: %+v", h)
		}
		if k, err := h.attestationKey(); err == nil && k == nil {
			t.Error("neither key nor error")
		}
	})
}

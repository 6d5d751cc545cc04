// SPDX-License-Identifier: Apache-2.0

package tpm

import (
	"fmt"

	"github.com/google/go-tpm/tpm2"
)

// commandNames are the commands that this program sends, for errors and logs (TPM
// 2.0 Part 2, section 6.5.2).
var commandNames = map[tpm2.TPMCC]string{
	tpm2.TPMCCActivateCredential: "TPM2_ActivateCredential",
	tpm2.TPMCCCreate:             "TPM2_Create",
	tpm2.TPMCCCreatePrimary:      "TPM2_CreatePrimary",
	tpm2.TPMCCEvictControl:       "TPM2_EvictControl",
	tpm2.TPMCCFlushContext:       "TPM2_FlushContext",
	tpm2.TPMCCGetCapability:      "TPM2_GetCapability",
	tpm2.TPMCCLoad:               "TPM2_Load",
	tpm2.TPMCCNVDefineSpace:      "TPM2_NV_DefineSpace",
	tpm2.TPMCCNVIncrement:        "TPM2_NV_Increment",
	tpm2.TPMCCNVRead:             "TPM2_NV_Read",
	tpm2.TPMCCNVReadPublic:       "TPM2_NV_ReadPublic",
	tpm2.TPMCCNVWrite:            "TPM2_NV_Write",
	tpm2.TPMCCPCRExtend:          "TPM2_PCR_Extend",
	tpm2.TPMCCPCRRead:            "TPM2_PCR_Read",
	tpm2.TPMCCPolicySecret:       "TPM2_PolicySecret",
	tpm2.TPMCCQuote:              "TPM2_Quote",
	tpm2.TPMCCReadPublic:         "TPM2_ReadPublic",
	tpm2.TPMCCStartAuthSession:   "TPM2_StartAuthSession",
	tpm2.TPMCCUnseal:             "TPM2_Unseal",
}

func commandName(cc tpm2.TPMCC) string {
	if n, ok := commandNames[cc]; ok {
		return n
	}
	return fmt.Sprintf("TPM command 0x%03x", uint32(cc))
}

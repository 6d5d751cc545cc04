// SPDX-License-Identifier: Apache-2.0

package tpmkeys

import "github.com/google/go-tpm/tpm2"

// Places of keys and certificates by convention (TCG TPM v2.0 Provisioning
// Guidance, section 7.8; TCG EK Credential Profile, section 2.2.1).
const (
	srkHandle    = tpm2.TPMHandle(0x81000001) // SRK
	rsaEKHandle  = tpm2.TPMHandle(0x81010001) // EK, template L-1
	eccEKHandle  = tpm2.TPMHandle(0x81010002) // EK, template L-2
	rsaCertIndex = tpm2.TPMHandle(0x01c00002) // certificate of the EK of L-1
	eccCertIndex = tpm2.TPMHandle(0x01c0000a) // certificate of the EK of L-2
)

// akTemplate is the attestation key: ECDSA over SHA-256 on P-256, restricted. noDA,
// because an attacker cannot guess its authorization value of 32 random bytes, while
// without noDA any program could lock the key by failing on purpose.
var akTemplate = tpm2.TPMTPublic{
	Type:    tpm2.TPMAlgECC,
	NameAlg: tpm2.TPMAlgSHA256,
	ObjectAttributes: tpm2.TPMAObject{
		FixedTPM:            true,
		FixedParent:         true,
		SensitiveDataOrigin: true,
		UserWithAuth:        true,
		NoDA:                true,
		Restricted:          true,
		SignEncrypt:         true,
	},
	Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &tpm2.TPMSECCParms{
		Symmetric: tpm2.TPMTSymDefObject{Algorithm: tpm2.TPMAlgNull},
		Scheme: tpm2.TPMTECCScheme{
			Scheme:  tpm2.TPMAlgECDSA,
			Details: tpm2.NewTPMUAsymScheme(tpm2.TPMAlgECDSA, &tpm2.TPMSSigSchemeECDSA{HashAlg: tpm2.TPMAlgSHA256}),
		},
		CurveID: tpm2.TPMECCNistP256,
		KDF:     tpm2.TPMTKDFScheme{Scheme: tpm2.TPMAlgNull},
	}),
	Unique: tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{}),
}

// SPDX-License-Identifier: Apache-2.0

// Package deviceattest gets certificates for keys of apps that are in the TPM, from a certification
// authority that speaks ACME (RFC 8555) with the challenge device-attest-01 and the format "tpm":
//
//	c := deviceattest.Client{
//		Authority: deviceattest.Server{URL: "https://verifier.example:8443"},
//		Directory: deviceattest.Server{URL: "https://ca.example/acme/agentd/directory"},
//		Label:     "tls",
//	}
//	certificate, err := c.Obtain(ctx)
//	...
//	config := &tls.Config{Certificates: []tls.Certificate{*certificate}}
//
// The program must run in the unit of an app that the agent lets have keys certified (keys.certify_apps).
// Obtain gets evidence over a challenge of the attestation authority, and with it a certificate of the
// machine's attestation key. That key then certifies the app's key over the challenge of the
// certification authority. No private key is on disk, or in this process: the key of the certificate
// stays in the TPM, and that of the account in the agent.
//
// docs/acme.md says what such a certificate proves, and what not.
package deviceattest

// SPDX-License-Identifier: Apache-2.0

// Package agentd is an attestation agent for confidential VMs (AMD SEV-SNP with a vTPM),
// and the verifier of its evidence. This package contains no code, only this overview.
//
// The agent runs in the VM. It measures applications before they start, gives evidence
// that binds a nonce and a key to what runs there, and keeps the applications' secrets. A
// relying party checks the evidence offline, under a policy.
//
// # Public packages
//
// For a relying party:
//
//   - verify: Verifier, policy, claims. It has no network, no clock and no device.
//   - verify/ear: results as signed tokens, for programs that know nothing of evidence.
//   - verify/snp: attestation reports of SEV-SNP, their certificates and AMD's roots.
//   - relying: challenges and appraisals over HTTP, for relying parties that have no Go.
//   - evidence: the format of evidence.
//   - pcr: PCR selections, and the measurement log with its replay.
//   - keys: enrolment of a TPM, so that a policy can name its attestation key.
//   - collateral: fetches certificates and revocation lists from AMD, and keeps them.
//
// For a build of images:
//
//   - launch: launch measurements of SEV-SNP, computed from files; ID blocks.
//
// For an application in the VM:
//
//   - client: asks the agent for evidence, keys and secrets.
//   - deviceattest: certificates for keys in the TPM, from a certification authority with ACME.
//   - api: requests, answers and codes of the agent's sockets.
//   - sealing: the format of sealed blobs.
//
// For both ends of a connection:
//
//   - attestedtls: TLS connections whose ends show evidence.
//
// Package agent runs the service. Only commands of this module use it: its options have
// types from internal packages. All other packages are internal, and docs/architecture.md
// has the map of them.
//
// # Commands
//
// agentd is the daemon. agentctl asks it, verifies evidence, and administrates. agentd-gate holds
// up programs until they are measured. agentd-container has engines of containers ask the agent
// before a container runs. agentd-sim is the daemon on a simulated machine, for development and
// tests. agentd-conformance tries out verifiers of others. The modules service and spire have
// agentd-verifier and agentd-spire.
package agentd

// SPDX-License-Identifier: Apache-2.0

// Package interop holds the agent's evidence against other people's verifiers:
// tpm2_checkquote of tpm2-tools, the check command of go-sev-guest, and the server
// package of go-tpm-tools. It holds the OpenAPI documents against
// libopenapi-validator, and tokens against golang-jwt. It is a module of its own, so that
// what those depend on stays out of ours.
package interop

// SPDX-License-Identifier: Apache-2.0

// Package consumers gives tokens to programs that people use: the policy engine of OPA, the JWT auth
// method of Vault, and the JWT library golang-jwt. Each is set up by the text of docs/tokens.md. It is a
// module of its own with a target of its own, `make test-consumers`, since these take a minute to compile.
package consumers

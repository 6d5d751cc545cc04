// SPDX-License-Identifier: Apache-2.0

// Package attestedtls makes TLS connections whose ends show evidence before the first byte of
// application data. The evidence belongs to this very connection: an attacker with a copy of a
// leaf's private key cannot pass on that of the real machine. docs/attested-tls.md is the
// specification, with the attacks that it stops and those that it does not.
//
// A relying party names its policy and dials:
//
//	policy, err := verify.ParsePolicy(text)
//	...
//	verifier, err := attestedtls.NewVerifier(policy, attestedtls.VerifierOptions{})
//	...
//	client := &attestedtls.Client{Verifier: verifier}
//	conn, err := client.Dial(ctx, "tcp", "machine.example:443")
//	...
//	claims := conn.Verdict().Claims
//
// The machine serves. The zero [Server] asks the agent for evidence, under a key that it makes:
//
//	var server attestedtls.Server
//	err := server.Serve(&http.Server{Handler: handler}, listener)
//
// A signed policy (verify.PolicyKeys) is for [NewSignedVerifier], which accepts nothing any more once
// the policy expires.
//
// Either end may verify, attest, or do both. [Client.Transport] is for net/http. The handler of a
// request finds the verdict with [VerdictFrom].
//
// # What is not anchored is fresh
//
// Each connection has a nonce, an exporter and a quote of its own. A report is made only when the
// policy's max_anchor_age runs out, or when an end asks for one (Fresh): a thousand connections
// cost at most one.
//
// # Many connections
//
// A quote costs more than the rest of a connection. With VerifierOptions.Continue a verifier lets
// connections rest on evidence that the same program showed a short time before, in one process and
// with one certificate. The verdict says so ([Verdict].Continued).
//
// # Sessions are not resumed
//
// A resumed session would rest on a ticket key instead of the key of the certificate, and save
// little beside a quote. So servers issue no tickets, and an end refuses a connection that was
// resumed.
package attestedtls

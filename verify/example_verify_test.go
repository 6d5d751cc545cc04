// SPDX-License-Identifier: Apache-2.0

package verify_test

import (
	"errors"
	"fmt"
	"log"
	"os"
	"strings"
	"time"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/verify"
	"github.com/cvm-agentd/agentd/verify/snp"
)

// policyText accepts the machine in docs/example.
const policyText = `version = 1

[[launch]]
measurement = "4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d"
kind = "plain"
covers = "firmware+kernel+cmdline"
`

// sentNonce is the nonce that the relying party sent, and now the time of the example.
var (
	sentNonce = []byte(strings.Repeat("N", 32))
	now       = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)
)

// example returns a file in docs/example.
func example(name string) []byte {
	b, err := os.ReadFile("../docs/example/" + name)
	if err != nil {
		log.Fatal(err)
	}
	return b
}

// simulated trusts the root of the simulator that made docs/example. The zero Config
// trusts the roots of real processors: a relying party uses that.
func simulated() verify.Config {
	roots := new(snp.Roots)
	certificates, err := snp.ParseCertificates(example("test-root.pem"))
	if err != nil {
		log.Fatal(err)
	}
	if err := roots.AddTestRootThatVouchesForNoHardware(certificates[0]); err != nil {
		log.Fatal(err)
	}
	return verify.Config{Roots: verify.Roots{SNP: roots}}
}

// verifier returns a Verifier for a policy.
func verifier(text string) *verify.Verifier {
	policy, err := verify.ParsePolicy([]byte(text))
	if err != nil {
		log.Fatal(err)
	}
	v, err := verify.New(policy, simulated())
	if err != nil {
		log.Fatal(err)
	}
	return v
}

// A relying party verifies evidence over the nonce that it sent and over the key that it
// sees in use.
func ExampleVerifier_Verify() {
	policy, err := verify.ParsePolicy([]byte(policyText))
	if err != nil {
		log.Fatal(err)
	}
	verifier, err := verify.New(policy, simulated())
	if err != nil {
		log.Fatal(err)
	}
	document := example("evidence.json")
	claims, err := verifier.Verify(document, verify.Expect{Nonce: sentNonce, PublicKey: []byte("a public key")}, now)
	if err != nil {
		log.Fatal(err) // refused
	}
	fmt.Println(claims.Statement.Caller.Unit, "has", string(claims.Statement.PublicKey))
	fmt.Println(claims.Machine.Platform, claims.Machine.SNP.Product, "under a test root:", claims.Machine.TestRoot)
	// Output:
	// billing.service has a public key
	// sev-snp genoa under a test root: true
}

// A refusal is an error with every check in it.
func ExampleRefusedError() {
	v := verifier(policyText)
	for _, document := range [][]byte{example("evidence.json"), []byte("{}")} {
		_, err := v.Verify(document, verify.Expect{Nonce: []byte("another nonce, 16 bytes or more")}, now)
		var refused *verify.RefusedError
		if !errors.As(err, &refused) {
			log.Fatal(err)
		}
		fmt.Println(err)
		fmt.Println("exit code", refused.Appraisal.ExitCode())
	}
	// Output:
	// evidence refused (signature or binding): statement.nonce
	// exit code 2
	// evidence refused (signature or binding): evidence.decode
	// exit code 2
}

// A tool shows every check of an appraisal. Its error says nothing about the evidence.
func ExampleVerifier_Appraise() {
	a, err := verifier(policyText+"\n[caller]\nunit = \"shop.service\"\n").Appraise(example("evidence.json"), verify.Expect{Nonce: sentNonce}, now)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(a.Verdict, a.Class, a.Binding)
	for _, c := range a.Failed() {
		fmt.Printf("%s: found %s, expected %s\n", c.ID, c.Found, c.Expected)
	}
	// Output:
	// fail policy guest-asserted
	// policy.caller-unit: found "billing.service", expected "shop.service"
}

// A bare report comes from another system. There is no vTPM in it, which the policy must
// accept, and its REPORT_DATA is what that system put there, which does not date it.
func ExampleVerifier_VerifyReport() {
	e, err := evidence.Parse(example("evidence.json"))
	if err != nil {
		log.Fatal(err)
	}
	raw := verify.RawReport{Kind: evidence.ReportSNP, Report: e.Report.Bytes}
	for _, c := range e.Certificates {
		raw.Certificates = append(raw.Certificates, c)
	}
	data := e.ReportData()
	text := strings.Replace(policyText, "version = 1\n", "version = 1\nbinding = \"none\"\nlog = \"optional\"\nfreshness = \"any\"\n", 1)
	claims, err := verifier(text).VerifyReport(raw, verify.Expect{ReportData: data[:]}, now)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("VMPL %d, %d PCRs\n", claims.Machine.SNP.VMPL, len(claims.PCRs))
	// Output:
	// VMPL 0, 0 PCRs
}

// SPDX-License-Identifier: Apache-2.0

package evidence_test

import (
	"fmt"
	"log"
	"os"

	"github.com/cvm-agentd/agentd/evidence"
)

// A document contains the statement of one caller as bytes. What both say is unverified:
// package verify checks it.
func ExampleParse() {
	b, err := os.ReadFile("../docs/example/evidence.json")
	if err != nil {
		log.Fatal(err)
	}
	e, err := evidence.Parse(b)
	if err != nil {
		log.Fatal(err)
	}
	s, err := evidence.ParseStatement(e.Statement)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("claimed: app %s of unit %s, uid %d, with user data %q\n", s.Caller.App, s.Caller.Unit, s.Caller.UID, s.UserData)
	fmt.Printf("quoted in a batch of %d, with a %s report of %d bytes\n", e.Batch.Tree.Size, e.Report.Kind, len(e.Report.Bytes))
	// Output:
	// claimed: app billing of unit billing.service, uid 990, with user data "invoice 7"
	// quoted in a batch of 3, with a sev-snp report of 1184 bytes
}

// The quote of a batch commits to the statement of each caller by a Merkle tree. The bytes of
// the statement are hashed as they are.
func ExampleCheckInclusion() {
	b, err := os.ReadFile("../docs/example/evidence.json")
	if err != nil {
		log.Fatal(err)
	}
	e, err := evidence.Parse(b)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(evidence.CheckInclusion(e.Batch.Tree, evidence.Leaf(e.Statement), e.Inclusion))

	altered := append(evidence.Bytes(nil), e.Statement...)
	altered[len(altered)-2] ^= 1
	fmt.Println(evidence.CheckInclusion(e.Batch.Tree, evidence.Leaf(altered), e.Inclusion))
	// Output:
	// <nil>
	// inclusion proof does not lead to the root: leaf 0 of 3, 2 hashes
}

// The qualifying data of the quote is a commitment to the tree, and to the anchor if the
// evidence has one.
func ExampleQuoteData() {
	b, err := os.ReadFile("../docs/example/evidence.json")
	if err != nil {
		log.Fatal(err)
	}
	e, err := evidence.Parse(b)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(evidence.QuoteData(e.Batch.Tree, e.AnchorDigest()))
	// Output:
	// 55e40f26adf12b829dd37f9c865bf17cc58d0ada9b3b69c327cd81bb7b759dd0
}

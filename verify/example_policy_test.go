// SPDX-License-Identifier: Apache-2.0

package verify_test

import (
	"fmt"
	"log"
	"strings"
	"time"

	"github.com/cvm-agentd/agentd/verify"
)

// A policy that is built in Go: one launch measurement, reports of up to ten minutes, and
// one application.
func ExamplePolicy() {
	p := &verify.Policy{Version: verify.PolicyVersion}
	p.Launches = []verify.Launch{{
		Measurement: strings.Repeat("4d", 48),
		Kind:        verify.KindPlain,
		Covers:      verify.CoversKernel,
	}}
	p.Freshness, p.MaxAnchorAge = verify.AnchoredReport, verify.Duration(10*time.Minute)
	p.Apps = []verify.App{{Name: "billing", Digests: []string{strings.Repeat("a1", 32)}}}
	text, err := p.Encode()
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s", text)
	// Output:
	// version = 1
	// freshness = 'anchored'
	// max_anchor_age = '10m0s'
	//
	// [[launch]]
	// measurement = '4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d'
	// kind = 'plain'
	// covers = 'firmware+kernel+cmdline'
	//
	// [[app]]
	// name = 'billing'
	// digests = ['a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1']
}

// A policy that is read from a file and changed. What contradicts another rule is refused
// when it is used, with the key.
func ExampleParsePolicy() {
	p, err := verify.ParsePolicy([]byte(`version = 1
unlisted_launch = "allow"
`))
	if err != nil {
		log.Fatal(err)
	}
	p.UnlistedApps = verify.Refuse // this machine runs what was declared for it
	p.Log = verify.Optional
	_, err = verify.New(p, verify.Config{})
	fmt.Println(err)
	p.Log = verify.Required
	_, err = verify.New(p, verify.Config{})
	fmt.Println(err)
	fmt.Println(p.Explain().Dangers[0])
	// Output:
	// verify: misuse: policy: log: unlisted_apps depends on the log: log must be "required"
	// <nil>
	// unlisted_launch is "allow": any firmware and kernel are accepted, those of an attacker included.
}

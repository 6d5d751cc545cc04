// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/ima"
	"github.com/cvm-agentd/agentd/verify"
	"github.com/cvm-agentd/agentd/verify/snp"
)

// trustFlags name what every appraisal needs in addition to evidence and policy.
type trustFlags struct {
	at, testRoot, collateral string
	certificates, crls       []string
}

func (f *trustFlags) add(c *cobra.Command) {
	flags := c.Flags()
	flags.StringVar(&f.at, "at", "", "")
	flags.StringVar(&f.testRoot, "trust-test-root-that-vouches-for-no-hardware", "", "")
	flags.StringVar(&f.collateral, "collateral", "", "")
	flags.StringArrayVar(&f.certificates, "certificate", nil, "")
	flags.StringArrayVar(&f.crls, "crl", nil, "")
}

// appraisalFlags also name the policy, and what the evidence must contain.
type appraisalFlags struct {
	trustFlags
	formatFlags
	policyKeys                                        policyKeyFlags
	policy, audience, publicKey, userData, enrolments string

	references []string // of files that IMA measured
}

func (f *appraisalFlags) add(c *cobra.Command) {
	f.trustFlags.add(c)
	f.formatFlags.add(c)
	flags := c.Flags()
	flags.StringVar(&f.policy, "policy", "", "")
	f.policyKeys.add(flags)
	flags.StringVar(&f.enrolments, "enrolments", "", "")
	flags.StringVar(&f.audience, "audience", "", "")
	flags.StringVar(&f.publicKey, "public-key", "", "")
	flags.StringVar(&f.userData, "user-data", "", "")
	flags.StringArrayVar(&f.references, "ima-reference", nil, "")
}

// appraisalInputs are the policy, trust, expectations and time of an appraisal.
type appraisalInputs struct {
	policy *verify.Policy
	verify.Config
	verify.Expect
	at         time.Time
	collateral string // folder, empty if there is none
}

// maxCertificates is the largest file of certificates that is read, in bytes.
const maxCertificates = 512 << 10

// trustInputs reads the files of the flags. Until a nonce is given, the appraisal is one
// from which nothing may be concluded.
func (t *terminal) trustInputs(f *trustFlags) (_ *appraisalInputs, err error) {
	o := &appraisalInputs{Expect: verify.Expect{UnsafeAcceptReplay: true}, collateral: f.collateral}
	if o.at, err = timeOr(f.at, time.Now()); err != nil {
		return nil, err
	}
	for _, name := range f.certificates {
		ders, err := t.readCertificates(name)
		if err != nil {
			return nil, err
		}
		o.Config.Certificates = append(o.Config.Certificates, ders...)
	}
	for _, name := range f.crls {
		list, err := readAs(t, name, maxCertificates, snp.ParseRevocationList)
		if err != nil {
			return nil, err
		}
		o.Revocation.SNP = append(o.Revocation.SNP, list)
	}
	if f.testRoot != "" {
		o.Roots.SNP, err = t.testRoots(f.testRoot)
	}
	return o, err
}

// appraisalInputs also reads the policy and the expectations.
func (t *terminal) appraisalInputs(f *appraisalFlags) (*appraisalInputs, error) {
	if f.policy == "" {
		return nil, misuse(errors.New("--policy is missing: name the file that says what is acceptable")).withHint("docs/policy.md describes the file; `agentctl policy init` writes one")
	}
	at, err := timeOr(f.at, time.Now())
	if err != nil {
		return nil, err
	}
	signed, err := t.readPolicy(f.policy, &f.policyKeys, at)
	if err != nil {
		return nil, err
	}
	o, err := t.trustInputs(&f.trustFlags)
	if err != nil {
		return nil, err
	}
	o.policy, o.PolicyExpires, o.Audience = signed.Policy, signed.Label.Expires, f.audience
	if err := t.addEnrolments(f.enrolments, o.policy, &o.Config); err != nil {
		return nil, err
	}
	for _, name := range f.references {
		b, err := t.readInput(name, ima.MaxReference)
		if err != nil {
			return nil, err
		}
		o.IMAReferences = append(o.IMAReferences, b)
	}
	if f.publicKey != "" {
		if o.PublicKey, err = t.readPublicKey(f.publicKey); err != nil {
			return nil, err
		}
	}
	if f.userData != "" {
		o.UserData, err = t.parseBytes("--user-data", f.userData, 1, evidence.MaxUserData)
	}
	return o, err
}

// withCollateral returns o with what the folder of collateral has for a report.
func (o appraisalInputs) withCollateral(report []byte) (*appraisalInputs, error) {
	if o.collateral == "" {
		return &o, nil
	}
	o.Config.Certificates, o.Revocation.SNP = slices.Clone(o.Config.Certificates), slices.Clone(o.Revocation.SNP)
	err := readCollateral(o.collateral, report, &o.Config)
	return &o, err
}

// verifier returns the verifier for one report.
func (o appraisalInputs) verifier(report []byte) (*verify.Verifier, error) {
	with, err := o.withCollateral(report)
	if err != nil {
		return nil, err
	}
	return verify.New(with.policy, with.Config)
}

// timeOr returns the time of --at, or another if the flag was not given.
func timeOr(at string, otherwise time.Time) (time.Time, error) {
	if at == "" {
		return otherwise, nil
	}
	return parseTimeOf("--at", at)
}

func parseTimeOf(flag, s string) (time.Time, error) {
	for _, layout := range []string{time.RFC3339, time.DateOnly} {
		if at, err := time.Parse(layout, s); err == nil {
			return at, nil
		}
	}
	return time.Time{}, misuse(fmt.Errorf("%s %q is not a time: write it like 2026-01-31 or 2026-01-31T12:00:00Z", flag, s))
}

// testRoots returns the self-signed certificates of a file as the only roots.
func (t *terminal) testRoots(name string) (*snp.Roots, error) {
	parsed, err := readAs(t, name, maxCertificates, snp.ParseCertificates)
	if err != nil {
		return nil, err
	}
	roots := new(snp.Roots)
	for _, c := range parsed {
		if err := roots.AddTestRootThatVouchesForNoHardware(c); err != nil {
			return nil, misuse(fmt.Errorf("%s: %w", name, err))
		}
	}
	fmt.Fprintf(t.err, "agentctl: the roots in %s are trusted in place of AMD's: the verdict vouches for no hardware\n", name)
	return roots, nil
}

// SPDX-License-Identifier: Apache-2.0

// Package conformance gives cases of known outcome to a verifier that is a command, and reports
// where the two disagree. docs/conformance.md is the contract with the command.
//
// It knows no verifier: what is expected comes from the files of package corpus.
package conformance

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/cvm-agentd/agentd/internal/corpus"
	"github.com/cvm-agentd/agentd/internal/strictjson"
	"github.com/cvm-agentd/agentd/internal/text"
)

// Variable is set to the version of the contract in the environment of the command.
const Variable = "AGENTD_CONFORMANCE=1"

// What a verifier can say of a case.
const (
	Accept = "accept"
	Refuse = "refuse"
)

// MaxOutput is how many bytes a command may write to standard output, and to standard error.
const MaxOutput = 64 << 10

// files returns what a verifier is given in a case, by the name of the file. A value that is nil is
// not given.
func files(all *corpus.Corpus, c *corpus.Case) map[string][]byte {
	out := map[string][]byte{
		"policy.toml": c.Policy, "time": []byte(c.Time.UTC().Format(time.RFC3339)),
		"nonce": c.Nonce, "public-key": c.PublicKey, "user-data": c.UserData, "report-data": c.ReportData,
		"known-log.json": c.LogState, "ima-list": c.IMAList, "ima-reference": c.IMAReference,
		"quote": c.Quote, "signature": c.Signature, "pcrs": c.PCRs, "firmware-log": c.FirmwareLog,
		"certificates.pem": certificates(all, c),
	}
	if c.Audience != "" {
		out["audience"] = []byte(c.Audience)
	}
	if c.Root == "test" {
		out["roots.pem"] = all.Root
	}
	for i, list := range c.Revoked {
		out[fmt.Sprintf("revocation-%d.crl", i+1)] = list
	}
	switch c.Material {
	case corpus.Report:
		out["snp-report"] = c.Evidence
	case corpus.Paravisor:
		out["azure-hcl"] = c.Evidence
	default:
		out["evidence"] = append([]byte{}, c.Evidence...) // an empty document is given too
	}
	return out
}

// writeFolder writes a case into the folder that a command gets.
func writeFolder(all *corpus.Corpus, c *corpus.Case, dir string) error {
	for name, b := range files(all, c) {
		if b == nil {
			continue
		}
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// Answer is what a command prints.
type Answer struct {
	Verdict     string   `json:"verdict"`
	Checks      []string `json:"checks,omitempty"`      // ids of those that failed
	Unsupported []string `json:"unsupported,omitempty"` // features that the verifier lacks
	Reason      string   `json:"reason,omitempty"`
}

// maxNames is how many checks, or features, an answer may name; maxName is how long an id may be.
const (
	maxNames = 1000
	maxName  = 100
)

// parseAnswer reads what a command printed.
func parseAnswer(b []byte) (*Answer, error) {
	a := new(Answer)
	if len(b) == 0 {
		return nil, errors.New("it printed nothing: want one JSON object")
	}
	if err := strictjson.Decode(b, MaxOutput, a); err != nil {
		return nil, fmt.Errorf("it printed something else than one JSON object of the contract: %w", err)
	}
	switch {
	case a.Verdict != Accept && a.Verdict != Refuse:
		return nil, fmt.Errorf("verdict %s: want %q or %q", text.Excerpt(a.Verdict), Accept, Refuse)
	case a.Verdict == Accept && len(a.Checks) > 0:
		return nil, errors.New("it accepts, and names checks that failed")
	case len(a.Checks) > maxNames || len(a.Unsupported) > maxNames:
		return nil, fmt.Errorf("it names more than %d checks or features", maxNames)
	}
	for _, id := range a.Checks {
		if err := text.Check("the id of a check", id, 1, maxName); err != nil {
			return nil, err
		}
	}
	for _, f := range a.Unsupported {
		if !corpus.IsFeature(f) {
			return nil, fmt.Errorf("unsupported %s is not a feature: `agentd-conformance --help` lists them", text.Excerpt(f))
		}
	}
	return a, nil
}

// Expected is what a verifier must say of a case.
type Expected struct {
	Verdict string   `json:"verdict"`
	Checks  []string `json:"checks,omitempty"` // all that fail
}

// expected returns what a verifier must say of a case.
func expected(c *corpus.Case) Expected {
	if c.Accepted() {
		return Expected{Verdict: Accept}
	}
	return Expected{Verdict: Refuse, Checks: c.Fails}
}

// lacks returns the first feature of a case that is in a list.
func lacks(c *corpus.Case, list []string) (feature string, ok bool) {
	i := slices.IndexFunc(c.Features, func(f string) bool { return slices.Contains(list, f) })
	if i < 0 {
		return "", false
	}
	return c.Features[i], true
}

// judge compares an answer with what is expected.
func judge(c *corpus.Case, a *Answer) (o Outcome, detail string) {
	want := expected(c)
	if f, ok := lacks(c, a.Unsupported); ok {
		return Unsupported, fmt.Sprintf("the verifier lacks %s", f)
	}
	switch {
	case a.Verdict == Accept && want.Verdict == Refuse:
		return Failed, "ACCEPTED, and must be refused: " + strings.Join(want.Checks, ", ")
	case a.Verdict != want.Verdict:
		return Failed, "refused, and must be accepted"
	case a.Verdict == Accept || a.Checks == nil:
		return Passed, ""
	}
	compared := 0
	for _, id := range a.Checks {
		if strings.HasPrefix(id, "policy.") && slices.Contains(a.Unsupported, "policy") {
			continue
		}
		compared++
		if !slices.Contains(want.Checks, id) {
			return Failed, fmt.Sprintf("refused by check %q, which must not fail: want %s", id, strings.Join(want.Checks, ", "))
		}
	}
	if compared == 0 {
		return Failed, "refused by no check: want " + strings.Join(want.Checks, ", ")
	}
	return Passed, ""
}

// certificates returns the certificates that a verifier has, as PEM, or nil.
func certificates(all *corpus.Corpus, c *corpus.Case) []byte {
	var out []byte
	if c.Shared {
		out = slices.Concat(out, all.Certificates)
	}
	for _, der := range c.Certificates {
		out = append(out, encodePEM(der)...)
	}
	return out
}

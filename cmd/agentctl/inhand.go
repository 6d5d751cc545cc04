// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"github.com/cvm-agentd/agentd/internal/strictjson"
	"github.com/cvm-agentd/agentd/verify/snp"
)

// maxInHand caps a file with a report in some form, in bytes.
const maxInHand = 1 << 20

// readReport reads a file with a report: the report itself, or what other tools make of it, see
// reportIn. The error names what the file is instead, if that is known. What is not known comes
// back as it is, for the verifier to refuse.
func (t *terminal) readReport(name string) ([]byte, error) {
	b, err := t.readInput(name, maxInHand)
	if err != nil {
		return nil, err
	}
	if r := reportIn(b, 0); r != nil {
		return r, nil
	}
	if what := snp.Recognise(b); what != "" && !strings.HasPrefix(what, "an attestation report") {
		return nil, &exitError{code: exitBinding, err: fmt.Errorf("%s: found %s, want an attestation report of %d bytes", name, what, snp.ReportSize)}
	}
	return b, nil
}

// deepest is how many forms may be around a report: an answer in base64 in JSON has two.
const deepest = 3

// reportIn returns the report in b, nil if there is none: the report, alone or with the host's
// certificate table after it, which stays there; the firmware's response, either in hexadecimal or base64, and a
// JSON object with one of these in a text member, as of the kernel's TSM interface; a report that
// is spelled out member by member.
func reportIn(b []byte, depth int) []byte {
	if depth == deepest {
		return nil
	}
	switch {
	case len(b) == snp.ReportSize:
		return b
	case len(b) == snp.ResponseSize && binary.LittleEndian.Uint32(b) == 0 && binary.LittleEndian.Uint32(b[4:]) == snp.ReportSize:
		return b[snp.ResponseHeader:][:snp.ReportSize:snp.ReportSize]
	case len(b) > snp.ReportSize:
		if table, err := snp.ParseTable(b[snp.ReportSize:]); err == nil && len(table) > 0 {
			return b
		}
	}
	if inner, _ := snp.Untext(b); inner != nil {
		return reportIn(inner, depth+1)
	}
	if r := reportOfMembers(b); r != nil {
		return r
	}
	var doc map[string]any
	if strictjson.Decode(b, maxInHand, &doc) != nil {
		return nil
	}
	var found []byte
	for name, value := range doc {
		text, ok := value.(string)
		if !ok || !slices.Contains(members, strings.ToLower(strings.ReplaceAll(name, "_", ""))) {
			continue
		}
		if r := reportIn([]byte(text), depth+1); r != nil {
			if found != nil {
				return nil // two: which one is not ours to say
			}
			found = r
		}
	}
	return found
}

// members are the names, in lower case and without "_", of JSON members with a report.
var members = []string{"outblob", "report", "attestationreport", "snpreport", "rawreport", "quote"}

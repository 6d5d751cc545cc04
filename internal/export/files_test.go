// SPDX-License-Identifier: Apache-2.0

package export_test

import (
	"testing"

	"github.com/cvm-agentd/agentd/internal/evidencetest"
	"github.com/cvm-agentd/agentd/internal/export"
	"github.com/cvm-agentd/agentd/verify/snp"
)

// TestReportOfEachKind: report.bin is the report of the firmware, whatever is around it, and the
// host's table follows one. What the report is over besides has a file of its own.
func TestReportOfEachKind(t *testing.T) {
	for _, c := range []struct {
		recipe *evidencetest.Recipe
		over   string // name of the file
	}{{evidencetest.New(), ""}, {evidencetest.NewSVSM(), "manifest.bin"}, {evidencetest.NewAzure(), "runtime.json"}} {
		e := c.recipe.Build(t)
		all, err := export.Files(e)
		if err != nil {
			t.Fatal(err)
		}
		content := make(map[string][]byte)
		for _, f := range all {
			content[f.Name] = f.Content
		}
		r, err := snp.ParseReport(content["report.bin"])
		if err != nil {
			t.Errorf("%s: %v", e.Report.Kind, err)
			continue
		}
		if b := content["report-certificates.bin"]; len(b) <= snp.ReportSize || string(b[:snp.ReportSize]) != string(content["report.bin"]) {
			t.Errorf("%s: report with a table of %d bytes", e.Report.Kind, len(b))
		}
		for _, name := range []string{"manifest.bin", "runtime.json"} {
			if (len(content[name]) > 0) != (name == c.over) {
				t.Errorf("%s: %s has %d bytes", e.Report.Kind, name, len(content[name]))
			}
		}
		if r.ReportData == [64]byte{} {
			t.Errorf("%s: no report data", e.Report.Kind)
		}
	}
}

// TestBrokenBlob: a paravisor's blob that cannot be read is exported as it is.
func TestBrokenBlob(t *testing.T) {
	e := evidencetest.NewAzure().Build(t)
	e.Report.Bytes = e.Report.Bytes[:1500]
	all, err := export.Files(e)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range all {
		switch {
		case f.Name == "report.bin" && string(f.Content) != string(e.Report.Bytes):
			t.Errorf("%d bytes", len(f.Content))
		case f.Name == "runtime.json", f.Name == "report-certificates.bin":
			t.Errorf("%s is written", f.Name)
		}
	}
}

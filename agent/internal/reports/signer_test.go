// SPDX-License-Identifier: Apache-2.0

package reports

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/platform"
	"github.com/cvm-agentd/agentd/internal/platform/soft"
	"github.com/cvm-agentd/agentd/verify/snp"
)

// with is a platform whose reports come with other certificates, or are of another kind.
type with struct {
	platform.Platform
	kind         evidence.ReportKind
	certificates [][]byte
}

func (w with) Kind() evidence.ReportKind { return w.kind }

func (w with) Report(ctx context.Context, data platform.Data) (platform.Report, error) {
	r, err := w.Platform.Report(ctx, data)
	r.Certificates = w.certificates
	return r, err
}

// TestSigner: a machine whose reports a VLEK of AWS signs is said to be like one of AWS, from the
// report and its certificate. What the configuration or another device says of a machine stays.
func TestSigner(t *testing.T) {
	aws, other := "CN=cc-us-east-2.amazonaws.com", "CN=cloud.example\nx"
	for name, c := range map[string]struct {
		signer snp.Signer
		csp    string
		strip  bool // the host hands out no certificate
		kind   evidence.ReportKind
		is     platform.Machine
		want   platform.Machine
		says   string // empty: nothing of a signer
	}{
		"a chip's key":         {snp.SignerVCEK, "", false, evidence.ReportSNP, platform.MachineSNP, platform.MachineSNP, ""},
		"of AWS":               {snp.SignerVLEK, aws, false, evidence.ReportSNP, platform.MachineSNP, platform.MachineAWS, `of "` + aws + `": a cloud like AWS`},
		"of another cloud":     {snp.SignerVLEK, other, false, evidence.ReportSNP, platform.MachineSNP, platform.MachineSNP, `of "CN=cloud.example; x"`},
		"only ends like AWS":   {snp.SignerVLEK, "CN=evilamazonaws.com", false, evidence.ReportSNP, platform.MachineSNP, platform.MachineSNP, "a VLEK signs"},
		"without certificate":  {snp.SignerVLEK, aws, true, evidence.ReportSNP, platform.MachineSNP, platform.MachineSNP, "which no certificate names"},
		"of AWS, on Google":    {snp.SignerVLEK, aws, false, evidence.ReportSNP, platform.MachineGCP, platform.MachineGCP, ""},
		"of AWS, named":        {snp.SignerVLEK, aws, false, evidence.ReportSNP, platform.MachineAWS, platform.MachineAWS, ""},
		"another kind of form": {snp.SignerVLEK, aws, false, evidence.ReportParavisor, platform.MachineSNP, platform.MachineSNP, ""},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := soft.New(soft.Options{Signer: c.signer, CSPID: c.csp, LeafAlone: true})
			if err != nil {
				t.Fatal(err)
			}
			got, err := p.Report(t.Context(), platform.Fixed([64]byte{}))
			if err != nil {
				t.Fatal(err)
			}
			if c.strip {
				got.Certificates = nil
			}
			var log bytes.Buffer
			inner := with{p, c.kind, got.Certificates}
			w := &Watched{Open: platform.Always(inner, platform.Choice{Machine: c.is, Why: "devices"}), Log: slog.New(slog.NewTextHandler(&log, nil))}
			defer w.Close()
			if _, err := w.device(t.Context()); err != nil {
				t.Fatal(err)
			}
			if s := w.Status(); s.Machine != string(c.is) || s.Why != "devices" {
				t.Errorf("before a report: %+v", s)
			}
			for range 3 {
				if _, err := w.Report(t.Context(), platform.Fixed([64]byte{})); err != nil {
					t.Fatal(err)
				}
			}
			s := w.Status()
			if s.Machine != string(c.want) || !strings.Contains(s.Why, c.says) || (s.Why == "devices") != (c.says == "") {
				t.Errorf("%+v", s)
			}
			lines := 1
			if c.says != "" {
				lines = 2
			}
			if n := strings.Count(log.String(), "msg=platform "); n != lines {
				t.Errorf("%d lines, want %d: %s", n, lines, log.String())
			}
		})
	}
}

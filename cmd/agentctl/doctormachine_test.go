// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/evidencetest"
	"github.com/cvm-agentd/agentd/internal/platform"
	"github.com/cvm-agentd/agentd/internal/platform/soft/google"
	"github.com/cvm-agentd/agentd/internal/vectors"
	"github.com/cvm-agentd/agentd/verify/snp"
)

// TestDoctorOnClouds: the doctor says what policies for a cloud have to name.
func TestDoctorOnClouds(t *testing.T) {
	a, err := google.New()
	if err != nil {
		t.Fatal(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	certified, err := a.Certify(key.Public(), google.Instance, nil)
	if err != nil {
		t.Fatal(err)
	}
	aws, err := snp.TableCertificates(vectors.Read(t, "EternisAI_attestation-server/sevsnp_attestation_aws_evidence_0.sevsnp.bin")[snp.ReportSize:])
	if err != nil || len(aws) != 1 {
		t.Fatalf("%d certificates, %v", len(aws), err)
	}
	for _, c := range []struct {
		name string
		is   platform.Machine
		of   [][]byte
		want map[string]string // words of findings by name
		not  []string
	}{
		{"plain", platform.MachineSNP, nil, map[string]string{"launch measurement": "kernel-hashes=on"}, []string{"attestation key", "signer of reports"}},
		{"aws, by its certificate", platform.MachineSNP, aws, map[string]string{"signer of reports": "CN=cc-us-east-2.amazonaws.com", "launch measurement": "--machine aws"}, []string{"attestation key"}},
		{"aws, by name", platform.MachineAWS, nil, map[string]string{"launch measurement": "firmware of AWS"}, []string{"signer of reports"}},
		{"google, own key", platform.MachineGCP, nil, map[string]string{"attestation key": "one of its own", "launch measurement": "--machine gcp"}, nil},
		{"google, certified", platform.MachineGCP, [][]byte{certified}, map[string]string{"attestation key": `"simulated-machine"`}, nil},
		{"azure", platform.MachineAzure, nil, map[string]string{"launch measurement": "paravisor"}, []string{"attestation key"}},
		{"svsm", platform.MachineSVSM, nil, map[string]string{"launch measurement": "SVSM"}, []string{"attestation key"}},
	} {
		e := &evidence.Evidence{}
		for _, der := range c.of {
			e.Certificates = append(e.Certificates, der)
		}
		d := new(doctor)
		d.lookAtCloud(c.is, e)
		for name, words := range c.want {
			if f := d.find(name); f == nil || !strings.Contains(f.Says, words) {
				t.Errorf("%s: %s: %+v", c.name, name, f)
			}
		}
		for _, name := range c.not {
			if f := d.find(name); f != nil {
				t.Errorf("%s: %s: %+v", c.name, name, f)
			}
		}
	}
}

// TestDoctorOnBindings: the doctor says what binding evidence can have, and what a policy lists for
// it.
func TestDoctorOnBindings(t *testing.T) {
	for name, c := range map[string]struct {
		recipe *evidencetest.Recipe
		want   string // empty: the doctor says nothing
	}{
		"plain": {evidencetest.New(), ""},
		"azure": {evidencetest.NewAzure(), `binding = "paravisor"`},
		"svsm":  {evidencetest.NewSVSM(), `binding = "svsm"`},
	} {
		e := c.recipe.Build(t)
		d := new(doctor)
		d.lookAtBinding(e)
		f := d.find("binding")
		if c.want == "" {
			if f != nil {
				t.Errorf("%s: %+v", name, f)
			}
			continue
		}
		r, err := snp.ParseReport(firmwareReport(e))
		if err != nil {
			t.Fatal(err)
		}
		kind := strings.Replace(c.want, "binding", "kind", 1)
		if f == nil || f.Level != levelFine || !strings.Contains(f.Says, c.want) || !strings.Contains(f.Says, kind) || !strings.Contains(f.Says, fmt.Sprintf("measurement = \"%x\"", r.Measurement)) {
			t.Errorf("%s: %+v", name, f)
		}
	}
}

// TestDoctorOnCertificates: evidence without the certificate of the key that signed its report is
// bad, and on Azure the doctor names the timer.
func TestDoctorOnCertificates(t *testing.T) {
	good := evidencetest.NewAzure().Build(t)
	other := evidencetest.NewAzure()
	other.Report.Leaf.HWID = bytes.Repeat([]byte{0x64}, 64)
	raised := evidencetest.NewAzure()
	raised.Report.Leaf.Levels[7]++
	leaves, issuers, _ := snp.SortCertificates(dersOf(good))
	if len(leaves) != 1 || len(issuers) == 0 {
		t.Fatalf("%d and %d certificates", len(leaves), len(issuers))
	}
	above := *good
	above.Certificates = evidence.Certificates{issuers[0].Raw}
	both := *good
	both.Certificates = append(slices.Clone(other.Build(t).Certificates), good.Certificates...)
	none := *good
	none.Certificates = nil
	for name, c := range map[string]struct {
		e     *evidence.Evidence
		level level
		says  string
	}{
		"its own":            {good, levelFine, "evidence has"},
		"those above alone":  {&above, levelFine, "evidence has 1"},
		"another's, and its": {&both, levelFine, "evidence has"},
		"another chip's":     {other.Build(t), levelBad, "another chip"},
		"another TCB's":      {raised.Build(t), levelBad, "another TCB"},
		"none":               {&none, levelBad, "evidence has none"},
	} {
		for machine, todo := range map[platform.Machine]string{platform.MachineAzure: "agentd-azure.timer", platform.MachineSNP: "put the VCEK or VLEK certificate"} {
			d := new(doctor)
			d.lookAtCertificates(machine, c.e)
			f := d.find("certificates")
			if f == nil || f.Level != c.level || !strings.Contains(f.Says, c.says) || strings.Contains(f.Todo, todo) != (c.level == levelBad) {
				t.Errorf("%s on %s: %+v", name, machine, f)
			}
		}
	}
}

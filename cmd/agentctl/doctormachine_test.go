// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/evidence"
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
		{"plain", platform.MachineSNP, nil, nil, []string{"launch measurement", "attestation key", "signer of reports"}},
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

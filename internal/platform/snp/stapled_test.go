// SPDX-License-Identifier: Apache-2.0

package snp_test

import (
	"bytes"
	"context"
	"testing"

	"github.com/cvm-agentd/agentd/internal/platform"
	"github.com/cvm-agentd/agentd/internal/platform/soft"
)

// case 43: with the host's table gone, the stapled certificates still travel; with
// it there, none travels twice.
func TestStapledCertificates(t *testing.T) {
	p := machine(t, soft.Options{})
	issuer, err := p.Intermediate()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Staple([][]byte{p.Endorsement(), issuer.Raw}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		faults soft.Faults
		n      int
	}{{soft.Faults{}, 3}, {soft.Faults{GarbageTable: true}, 2}, {soft.Faults{NoTable: true}, 2}} {
		p.SetFaults(c.faults)
		got, err := p.Report(context.Background(), platform.Fixed([64]byte{}))
		if err != nil || len(got.Certificates) != c.n || !bytes.Equal(got.Certificates[0], p.Endorsement()) {
			t.Errorf("%+v: %d certificates, %v; want %d", c.faults, len(got.Certificates), err, c.n)
		}
	}
	if err := p.Staple(make([][]byte, 17)); err == nil {
		t.Error("17 certificates are stapled")
	}
}

// SPDX-License-Identifier: Apache-2.0

package snp_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"slices"
	"testing"

	"github.com/cvm-agentd/agentd/internal/platform"
	"github.com/cvm-agentd/agentd/internal/platform/snp"
	"github.com/cvm-agentd/agentd/internal/platform/soft"
	report "github.com/cvm-agentd/agentd/verify/snp"
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

// The host may renew its certificates at any time: each report comes with those that the host
// sent with it, and a table that is garbage in between changes nothing.
func TestTableChanges(t *testing.T) {
	one, two := machine(t, soft.Options{}).Endorsement(), machine(t, soft.Options{}).Endorsement()
	var certificate []byte
	d, err := snp.New(answering(func(m *snp.Message) (uint64, error) {
		goodReport(m, 2)
		entry := append(slices.Clone(report.GUIDVCEK[:]), make([]byte, 8+24)...) // and the entry of zeros at the end
		binary.LittleEndian.PutUint32(entry[16:], uint32(len(entry)))
		binary.LittleEndian.PutUint32(entry[20:], uint32(len(certificate)))
		copy(m.Table, append(entry, certificate...))
		return 0, nil
	}), snp.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for i, sent := range [][]byte{one, one, two, []byte("garbage"), two, one} {
		certificate = sent
		want := [][]byte{certificate}
		if len(certificate) < 100 {
			want = nil
		}
		got, err := d.Report(t.Context(), platform.Fixed([64]byte{}))
		if err != nil || (got.TableError == nil) != (want != nil) || !slices.EqualFunc(got.Certificates, want, bytes.Equal) {
			t.Errorf("report %d: %d certificates, %v, %v", i, len(got.Certificates), got.TableError, err)
		}
		for _, der := range got.Certificates {
			clear(der) // a report is its caller's own
		}
	}
}

// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"errors"

	"github.com/cvm-agentd/agentd/internal/tpmwire"
	"github.com/cvm-agentd/agentd/keys"
	"github.com/cvm-agentd/agentd/verify/snp"
)

// drawManifest shows what an SVSM says of its vTPM, in the manifest of evidence with this AK.
func drawManifest(top *node, b, ak []byte) {
	n := top.add("manifest of %d bytes: what an SVSM says of its vTPM, if the launch measurement is that of an SVSM", len(b))
	m, err := tpmwire.ParseManifest(b)
	if errors.Is(err, tpmwire.ErrServices) {
		n.add("verify refuses evidence with it: %v", err)
		drawServices(n, b)
		return
	}
	if err != nil {
		n.add("cannot be read: %v", err)
		return
	}
	drawVTPM(n, m)
	switch {
	case m.AK == nil:
		n.add("it names no attestation key: an enrolment with this endorsement key ties the one below to it")
	case bytes.Equal(m.AK, ak):
		n.add("the attestation key is the one below")
	default:
		n.add("the attestation key is NOT the one below")
	}
}

// drawVTPM shows the manifest of a vTPM.
func drawVTPM(n *node, m *tpmwire.Manifest) {
	name := func(public []byte) string {
		p, err := keys.ParsePublic(public)
		if err != nil {
			return "without a name that enrolments have"
		}
		return p.Name().String()
	}
	n.add("version %d", m.Version)
	n.add("endorsement key %s", name(m.EK))
	if m.AK != nil {
		n.add("attestation key %s", name(m.AK))
	}
}

// drawServices shows what an SVSM says of all its services.
func drawServices(n *node, b []byte) {
	all, err := tpmwire.ParseServices(b)
	if err != nil {
		n.add("cannot be read: %v", err)
		return
	}
	for _, s := range all {
		draw, known := services[s.GUID]
		if !known {
			n.add("service %v, %d bytes of a kind without a name here", s.GUID, len(s.Data))
			continue
		}
		at := n.add("service %v, %s, %d bytes", s.GUID, draw.name, len(s.Data))
		if err := draw.with(at, s.Data); err != nil {
			at.add("cannot be read: %v", err)
		}
	}
	if len(all) == 0 {
		n.add("no services")
	}
}

// services are the services of SVSMs that are published, and how their manifests are shown.
var services = map[tpmwire.ServiceGUID]struct {
	name string
	with func(*node, []byte) error
}{
	tpmwire.ServiceVTPM: {"vTPM", func(n *node, b []byte) error {
		m, err := tpmwire.ParseManifest(b)
		if err == nil {
			drawVTPM(n, m)
		}
		return err
	}},
	tpmwire.ServiceUEFI: {"variables of UEFI", func(n *node, b []byte) error {
		m, err := tpmwire.ParseUEFI(b)
		if err == nil {
			drawUEFI(n, m)
		}
		return err
	}},
}

// drawUEFI shows what an SVSM says of the variables of UEFI.
func drawUEFI(n *node, m *tpmwire.UEFI) {
	for _, f := range []struct {
		is       bool
		yes, not string
	}{
		{m.SecureBoot, "secure boot is enabled", "secure boot is not enabled"},
		{m.Persistent, "the variables outlive the guest", "the variables end with the guest"},
		{m.Updatable, "the guest can update the databases of secure boot, with signed content", ""},
	} {
		text := f.not
		if f.is {
			text = f.yes
		}
		if text != "" {
			n.add("%s", text)
		}
	}
	if m.Reserved != 0 {
		n.add("flags of unknown meaning 0x%x", m.Reserved)
	}
}

// drawSVSM shows a manifest of an SVSM, alone (manifestblob of configfs-tsm) or after a report as
// in evidence. It returns nil if b is neither.
func drawSVSM(b []byte, top func(what string) *node) *node {
	var report *snp.Report
	if len(b) > snp.ReportSize {
		if r, err := snp.ParseReport(b[:snp.ReportSize]); err == nil {
			report, b = r, b[snp.ReportSize:]
		}
	}
	m, err := tpmwire.ParseManifest(b)
	what := "manifest of an SVSM's vTPM"
	switch {
	case errors.Is(err, tpmwire.ErrServices):
		what = "manifest of all services of an SVSM"
	case err != nil:
		return nil
	}
	if report != nil {
		what = "attestation report of SEV-SNP, and " + what
	}
	n := top(what)
	at := n
	if report != nil {
		drawFields(n, report, "should be SHA-512 of 64 bytes and of the manifest")
		at = n.add("manifest of %d bytes: what an SVSM says, if the launch measurement is that of an SVSM", len(b))
	}
	if m == nil {
		drawServices(at, b)
	} else {
		drawVTPM(at, m)
	}
	return n
}

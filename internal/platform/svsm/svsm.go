// SPDX-License-Identifier: Apache-2.0

// Package svsm asks an SVSM for reports about its vTPM (Secure VM Service Module for SEV-SNP
// Guests, AMD 58019, sections "Attestation Protocol" and "vTPM Protocol"), through
// configfs-tsm of Linux.
//
// The SVSM asks the firmware at VMPL 0 for a report over SHA-512 of our 64 bytes and the
// manifest of the vTPM. A report of this platform is the firmware's, then that manifest. The
// device below checks that the report is over both, and of VMPL 0. So what the kernel or
// another program mixes up is an error here, and not evidence that a verifier refuses.
//
// Hosts let about one request through in 2 seconds, and an SVSM that is throttled may end the
// guest. So requests to the SVSM wait in one queue with those to the firmware, spaced.
package svsm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/platform"
	"github.com/cvm-agentd/agentd/internal/platform/snp"
	"github.com/cvm-agentd/agentd/internal/tpmwire"
)

// VTPM is the GUID of the vTPM service.
var VTPM = tpmwire.ServiceVTPM.String()

// MinSpacing is the least time between two requests. Hosts that throttle make the SVSM fail.
const MinSpacing = 2 * time.Second

// Has reports whether the TPM of the machine has a key with this TPMT_PUBLIC, so that the agent
// can quote with it.
type Has func(ctx context.Context, public []byte) (bool, error)

// Device is the platform of a guest above an SVSM.
type Device struct {
	*snp.Device                   // queue, certificates, derived keys of the guest's own level
	manifest    *tpmwire.Manifest // at the opening: its version and keys stay

	mu    sync.Mutex // guards both
	host  [][]byte   // certificates that the host handed to the guest itself; nil if there was no answer yet
	asked time.Time  // when a request for them failed last
}

var _ platform.Platform = (*Device)(nil)

// New returns the platform over d, which it closes. It asks the SVSM for its manifest: for one of
// version 1 first, which is of use only if the TPM has the attestation key in it, since evidence
// with another key would be refused. An SVSM that does not know the version leads to version 0, and
// no error does: the agent would make a key of its own, which verifiers know only if it is
// enrolled. A nil has asks for version 0 alone.
//
// Linux has one error, EINVAL, for all that an SVSM refuses, so a request that failed looks like an
// unknown version. So an answer to version 0 must come between two refusals. The host can still
// have the first and the third request fail. Evidence is then weaker, which verifiers notice.
func New(ctx context.Context, d *snp.Device, has Has) (s *Device, err error) {
	s = &Device{Device: d}
	if has == nil {
		s.manifest, err = s.look(ctx, 0)
		return s, err
	}
	var zero *tpmwire.Manifest
	m, err := s.look(ctx, 1)
	if refused(err) {
		if zero, err = s.look(ctx, 0); err == nil {
			m, err = s.look(ctx, 1)
		}
		if zero != nil && refused(err) {
			s.manifest = zero
			return s, nil
		}
	}
	if err != nil {
		return nil, err
	}
	there, err := has(ctx, m.AK)
	switch {
	case err != nil:
		return nil, fmt.Errorf("look for the SVSM's attestation key in the TPM: %w", err)
	case there:
		s.manifest = m
	case zero != nil:
		s.manifest = zero
	default:
		s.manifest, err = s.look(ctx, 0)
	}
	return s, err
}

// refused reports whether the SVSM refused a request, for instance since it does not know the
// version.
func refused(err error) bool {
	return errors.Is(err, platform.ErrFirmware) && errors.Is(err, unix.EINVAL)
}

// look returns the manifest of a version.
func (s *Device) look(ctx context.Context, version uint32) (*tpmwire.Manifest, error) {
	_, m, err := s.ask(ctx, platform.Fixed([64]byte{}), version)
	if err != nil {
		return nil, fmt.Errorf("find out what the SVSM says of its vTPM: %w", err)
	}
	return m, nil
}

// Kind returns [evidence.ReportSVSM].
func (*Device) Kind() evidence.ReportKind { return evidence.ReportSVSM }

// AK returns the TPMT_PUBLIC of the attestation key that the manifests name, nil if they name
// none: then any key of the TPM will do.
func (s *Device) AK() []byte { return slices.Clone(s.manifest.AK) }

// EK returns the TPMT_PUBLIC of the endorsement key that the manifests name.
func (s *Device) EK() []byte { return slices.Clone(s.manifest.EK) }

// Report asks the SVSM for a report over data. Its bytes are the report and the manifest.
func (s *Device) Report(ctx context.Context, data platform.Data) (platform.Report, error) {
	r, m, err := s.ask(ctx, data, s.manifest.Version)
	if err != nil {
		return platform.Report{}, err
	}
	if !bytes.Equal(m.AK, s.manifest.AK) || !bytes.Equal(m.EK, s.manifest.EK) {
		return platform.Report{}, fmt.Errorf("%w: the SVSM's manifest names another key than when the agent started: restart the agent", platform.ErrMalformed)
	}
	if len(r.Certificates) == 0 {
		r.Certificates = s.certificates(ctx)
	}
	return r, nil
}

// ask asks for a report with a manifest of this version.
func (s *Device) ask(ctx context.Context, data platform.Data, version uint32) (platform.Report, *tpmwire.Manifest, error) {
	r, manifest, err := s.ServiceReport(ctx, data, snp.Service{GUID: VTPM, Version: version})
	if err != nil {
		return platform.Report{}, nil, err
	}
	m, err := tpmwire.ParseManifest(manifest)
	if err == nil && m.Version != version {
		err = fmt.Errorf("manifest of version %d, want %d", m.Version, version)
	}
	if err != nil {
		return platform.Report{}, nil, fmt.Errorf("%w: %w", platform.ErrMalformed, err)
	}
	r.Bytes = slices.Concat(r.Bytes, manifest)
	return r, m, nil
}

// againAfter is how long the host's certificates are done without if a request for them failed.
const againAfter = 5 * time.Minute

// certificates returns those that the host hands to the guest itself. SVSMs before 2026 pass
// none on. They are asked for until there is an answer, and then no more: a request takes its turn
// as any other, so one that fails must not go with each report.
func (s *Device) certificates(ctx context.Context) [][]byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.host == nil && s.Keys() != nil && (s.asked.IsZero() || time.Since(s.asked) >= againAfter) {
		r, err := s.Device.Report(ctx, platform.Fixed([64]byte{}))
		switch {
		case err == nil:
			s.host = append([][]byte{}, r.Certificates...)
		case !errors.Is(err, context.Canceled): // a caller that left says nothing about the host
			s.asked = time.Now()
		}
	}
	return slices.Clone(s.host)
}

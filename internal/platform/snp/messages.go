// SPDX-License-Identifier: Apache-2.0

package snp

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"syscall"

	"github.com/cvm-agentd/agentd/internal/platform"
	report "github.com/cvm-agentd/agentd/verify/snp"
)

// Command is a request to the processor, by its number in ioctl: _IOWR('S', N, 32 bytes).
type Command uint32

// The commands of /dev/sev-guest.
const (
	GetReport         Command = 0xC0205300
	GetDerivedKey     Command = 0xC0205301
	GetExtendedReport Command = 0xC0205302 // a report with the host's certificate table
)

// Sizes of requests and answers in bytes (include/uapi/linux/sev-guest.h).
const (
	reportRequestSize  = 96   // struct snp_report_req
	reportResponseSize = 4000 // struct snp_report_resp
	keyRequestSize     = 32   // struct snp_derived_key_req
	keyResponseSize    = 64   // struct snp_derived_key_resp
	answerHeader       = 32   // status and, for reports, size; the rest reserved; then report or key
)

// StatusInvalidParameters is the answer's status for a request that the firmware
// does not accept (ABI, tables "MSG_REPORT_RSP" and "MSG_KEY_RSP").
const StatusInvalidParameters = 0x16

// reportMessage returns MSG_REPORT_REQ as Linux takes it: report data at 0, VMPL at 64,
// the rest zero. Key selection, in the reserved bytes there, stays 0: the host decides.
func reportMessage(data [64]byte, vmpl uint32) []byte {
	b := make([]byte, reportRequestSize)
	copy(b, data[:])
	binary.LittleEndian.PutUint32(b[64:], vmpl)
	return b
}

// reportAnswer checks MSG_REPORT_RSP (status at 0, size at 4, report at 32) and
// returns the report. Its signature is for verifiers; here it is only compared
// with what was asked: an answer to another request must not be returned.
// Fields are at the offsets of every version so far, so that a report of a version
// that this agent does not know still reaches a verifier that does.
func reportAnswer(b []byte, data [64]byte, vmpl uint32) ([]byte, error) {
	if err := status(b); err != nil {
		return nil, err
	}
	if size := binary.LittleEndian.Uint32(b[4:]); size != report.ReportSize {
		return nil, fmt.Errorf("report of %d bytes, want %d: %w", size, report.ReportSize, platform.ErrMalformed)
	}
	r := b[answerHeader : answerHeader+report.ReportSize]
	if v := binary.LittleEndian.Uint32(r); v < report.MinReportVersion {
		return nil, fmt.Errorf("report of version %d, want at least %d: %w", v, report.MinReportVersion, platform.ErrMalformed)
	}
	if [64]byte(r[0x50:]) != data {
		return nil, fmt.Errorf("report data is not what was asked for: %w", platform.ErrMalformed)
	}
	if v := binary.LittleEndian.Uint32(r[0x30:]); v != vmpl {
		return nil, fmt.Errorf("report names VMPL %d, asked for %d: %w", v, vmpl, platform.ErrVMPL)
	}
	return bytes.Clone(r), nil
}

// The derived key that is asked for, and no other (ABI, table "MSG_KEY_REQ
// Message Structure"; case 74). Key select 0 would mean the VLEK if one is
// installed, which is a cloud's key and not a chip's.
const (
	keyRoot           = 1 << 1 // bits 2:1 KEY_SEL = 1, the VCEK; bit 0 = 0, not the VMRK
	keyMixPolicy      = 1 << 0 // guest policy
	keyMixMeasurement = 1 << 3 // launch measurement
	keyMixTCB         = 1 << 5 // TCB_VERSION of the request
)

// keyFields are the fields that sealing mixes in.
const keyFields = keyMixPolicy | keyMixMeasurement | keyMixTCB

// keyRequest returns MSG_KEY_REQ: root at 0, fields to mix at 8, VMPL at 16 (always
// mixed), guest SVN at 20, TCB at 24.
func keyRequest(vmpl uint32, p keyProbe) []byte {
	b := make([]byte, keyRequestSize)
	binary.LittleEndian.PutUint32(b[0:], p.Root)
	binary.LittleEndian.PutUint64(b[8:], p.Fields)
	binary.LittleEndian.PutUint32(b[16:], vmpl)
	binary.LittleEndian.PutUint32(b[20:], p.GuestSVN)
	binary.LittleEndian.PutUint64(b[24:], p.TCB)
	return b
}

func status(answer []byte) error {
	s := binary.LittleEndian.Uint32(answer)
	if s == 0 {
		return nil
	}
	return fmt.Errorf("%w: %s", platform.ErrFirmware, firmwareStatus(s))
}

// Hypervisor's part of exitinfo2 (include/uapi/linux/sev-guest.h, SNP_GUEST_VMM_ERR_*).
const (
	vmmInvalidLength = 1 // the table does not fit
	vmmBusy          = 2 // throttled
)

// noFirmwareCall is what the kernel leaves in the firmware's part if there was no call;
// older kernels write the shorter one.
const (
	noFirmwareCall    = 0xFFFFFFFF
	noFirmwareCallOld = 0xFF
)

// ErrRaced is returned by a transport that other programs use too, if one of them interfered with
// a request. The answer, if there was one, is lost.
var ErrRaced = errors.New("another program interfered with the request")

// known are the errors that a transport may return instead of an errno.
var known = []error{platform.ErrAbsent, platform.ErrBusy, platform.ErrTimedOut, platform.ErrVMPL, platform.ErrMalformed}

// errTableTooSmall is returned if the host wants more room for its certificates.
var errTableTooSmall = errors.New("certificate table does not fit")

// classify returns what went wrong with an exchange, nil if nothing did.
func classify(exitInfo uint64, err error) error {
	hypervisor, firmware := uint32(exitInfo>>32), uint32(exitInfo)
	if firmware == noFirmwareCall || firmware == noFirmwareCallOld {
		firmware = 0
	}
	switch {
	case err == nil && hypervisor == 0 && firmware == 0:
		return nil
	case errors.Is(err, ErrRaced):
		return fmt.Errorf("%w: %w", platform.ErrBusy, err)
	case slices.ContainsFunc(known, func(k error) bool { return errors.Is(err, k) }):
		return err
	case errors.Is(err, syscall.ENOTTY):
		return fmt.Errorf("%w: the kernel gave the key up after a failed exchange; only a reboot brings it back (or this is not the device of SEV-SNP)", with(platform.ErrKeyWiped, err))
	case errors.Is(err, syscall.ENODEV), errors.Is(err, syscall.ENXIO):
		return with(platform.ErrAbsent, err)
	case errors.Is(err, syscall.ETIMEDOUT):
		return fmt.Errorf("the host throttled the request for as long as the kernel tries: %w", with(platform.ErrTimedOut, err))
	case hypervisor == vmmBusy, errors.Is(err, syscall.EAGAIN), errors.Is(err, syscall.EBUSY), errors.Is(err, syscall.EINTR):
		return with(platform.ErrBusy, err)
	case hypervisor == vmmInvalidLength:
		return errTableTooSmall
	case hypervisor != 0:
		return refused(hypervisorError(hypervisor), err)
	case firmware != 0:
		return refused(firmwareStatus(firmware), err)
	case errors.Is(err, syscall.EBADMSG):
		return fmt.Errorf("the answer does not decrypt: %w", with(platform.ErrMalformed, err))
	}
	return fmt.Errorf("%w: no status came with it", with(platform.ErrFirmware, err))
}

// refused returns the refusal of a request by firmware or hypervisor.
func refused(why string, err error) error {
	return fmt.Errorf("%w: %s", with(platform.ErrFirmware, err), why)
}

// with returns kind, and the error of the kernel in the same line if there is one.
func with(kind, err error) error {
	if err == nil {
		return kind
	}
	return fmt.Errorf("%w (%w)", kind, err)
}

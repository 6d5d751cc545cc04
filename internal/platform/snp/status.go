// SPDX-License-Identifier: Apache-2.0

package snp

import "fmt"

// A named is a number of the firmware or the hypervisor, in words.
type named struct {
	name, meaning string
}

// statuses are the status codes of the firmware (SEV Secure Nested Paging Firmware ABI
// Specification, publication 56860, "Status Codes"; those from 0x32 on also in the SEV-TIO
// Firmware Interface Specification, publication 58271). Linux lists the same numbers in
// include/uapi/linux/psp-sev.h. A guest should only ever see a few, but the number comes
// from the host.
var statuses = map[uint32]named{
	0x01:                    {"INVALID_PLATFORM_STATE", "the host has not set the platform up"},
	0x02:                    {"INVALID_GUEST_STATE", "the host has not launched this guest to the end"},
	0x03:                    {"INVALID_CONFIG", "the host's configuration of the platform is not valid"},
	0x04:                    {"INVALID_LENGTH", "a buffer is too small"},
	0x05:                    {"ALREADY_OWNED", "the platform has an owner already"},
	0x06:                    {"INVALID_CERTIFICATE", "a certificate of the platform is not valid"},
	0x07:                    {"POLICY_FAILURE", "the guest policy does not allow it"},
	0x08:                    {"INACTIVE", "the guest is not active"},
	0x09:                    {"INVALID_ADDRESS", "the host passed an address that is not valid"},
	0x0a:                    {"BAD_SIGNATURE", "a signature is wrong"},
	0x0b:                    {"BAD_MEASUREMENT", "a measurement is wrong, or a message of the guest does not decrypt"},
	0x0c:                    {"ASID_OWNED", "the host gave the guest's address space to another guest"},
	0x0d:                    {"INVALID_ASID", "the host chose an address space that is not valid"},
	0x0e:                    {"WBINVD_REQUIRED", "the host has to flush the caches first"},
	0x0f:                    {"DFFLUSH_REQUIRED", "the host has to flush the data fabric first"},
	0x10:                    {"INVALID_GUEST", "the firmware does not know this guest"},
	0x11:                    {"INVALID_COMMAND", "the firmware does not know the command"},
	0x12:                    {"ACTIVE", "the guest is active already"},
	0x13:                    {"HWERROR_PLATFORM", "the hardware failed, and the firmware can go on"},
	0x14:                    {"HWERROR_UNSAFE", "the hardware failed, and the platform has to be reset"},
	0x15:                    {"UNSUPPORTED", "this firmware does not have the feature"},
	StatusInvalidParameters: {"INVALID_PARAM", "a VMPL below the guest's own, or a TCB above the committed one"},
	0x17:                    {"RESOURCE_LIMIT", "the firmware has no room left: fewer guests, or a reset of the platform"},
	0x18:                    {"SECURE_DATA_INVALID", "what the firmware keeps is damaged"},
	0x19:                    {"INVALID_PAGE_SIZE", "the host passed a page of a wrong size"},
	0x1a:                    {"INVALID_PAGE_STATE", "the host passed a page in a wrong state"},
	0x1b:                    {"INVALID_MDATA_ENTRY", "the host passed wrong metadata of a page"},
	0x1c:                    {"INVALID_PAGE_OWNER", "the host passed a page of another guest"},
	0x1d:                    {"AEAD_OFLOW", "the sequence number of the guest's messages ran out or does not fit: reboot the machine"},
	0x1f:                    {"RB_MODE_EXITED", "the firmware left the mode with a ring of commands"},
	0x20:                    {"RMP_INIT_REQUIRED", "the host has to set the table of page owners up first"},
	0x21:                    {"BAD_SVN", "the security version is lower than the committed one"},
	0x22:                    {"BAD_VERSION", "the version is lower than the committed one"},
	0x23:                    {"SHUTDOWN_REQUIRED", "the host has to shut the platform down first"},
	0x24:                    {"UPDATE_FAILED", "an update of the firmware failed"},
	0x25:                    {"RESTORE_REQUIRED", "the host has to restore the firmware after a failed update"},
	0x26:                    {"RMP_INITIALIZATION_FAILED", "the table of page owners could not be set up"},
	0x27:                    {"INVALID_KEY", "the key that is to sign or to derive from is not there: no VLEK is installed, or the host masks the chip's key"},
	0x28:                    {"SHUTDOWN_INCOMPLETE", "an earlier shutdown of the platform did not end"},
	0x30:                    {"INCORRECT_BUFFER_LENGTH", "a buffer has a wrong size"},
	0x31:                    {"EXPAND_BUFFER_LENGTH_REQUEST", "a buffer has to grow"},
	0x32:                    {"SPDM_REQUEST", "the firmware waits for a message to a device"},
	0x33:                    {"SPDM_ERROR", "a message to a device failed"},
	0x35:                    {"ERR_IN_DEV_CONN", "the connection to a device failed"},
	0x36:                    {"INVALID_DEV_CTX", "the context of a device is not valid"},
	0x37:                    {"INVALID_TDI_CTX", "the context of a device interface is not valid"},
	0x38:                    {"INVALID_TDI", "the device interface is not valid"},
	0x39:                    {"RECLAIM_REQUIRED", "the host has to take pages back first"},
	0x3a:                    {"IN_USE", "the resource is in use"},
	0x3b:                    {"INVALID_DEV_STATE", "the device is in a wrong state"},
	0x3c:                    {"INVALID_TDI_STATE", "the device interface is in a wrong state"},
	0x3d:                    {"DEV_CERT_CHANGED", "the certificate of a device changed"},
	0x3e:                    {"RESYNC_REQ", "a device has to be synchronised again"},
	0x3f:                    {"RESPONSE_TOO_LARGE", "an answer is too large"},
}

// hypervisors are the codes of the hypervisor, in the upper half of SW_EXITINFO2 (Guest
// Hypervisor Communication Block Standardization, publication 56421, "SNP Guest Request" and
// "SNP Extended Guest Request"). KVM answers all bits set for any other failure.
var hypervisors = map[uint32]named{
	vmmInvalidLength: {"INVALID_LENGTH", "the certificate table does not fit"},
	vmmBusy:          {"BUSY", "the host throttles requests"},
	0xffffffff:       {"GENERIC", "the hypervisor failed and does not say why"},
}

// whatToDo ends an error about a number.
const whatToDo = "give the number to the operator of the host"

func firmwareStatus(s uint32) string {
	return inWords("firmware status", s, statuses)
}

func hypervisorError(s uint32) string {
	return inWords("hypervisor error", s, hypervisors)
}

func inWords(what string, s uint32, names map[uint32]named) string {
	if n, ok := names[s]; ok {
		return fmt.Sprintf("%s 0x%x %s (%s): %s", what, s, n.name, n.meaning, whatToDo)
	}
	return fmt.Sprintf("%s 0x%x, which no specification names: %s", what, s, whatToDo)
}

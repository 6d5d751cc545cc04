package soft

import "time"

// Faults are what can go wrong between guest and firmware. All may be switched
// while the platform runs; see [Platform.SetFaults].
type Faults struct {
	Throttle        time.Duration // least time between answers; the kernel waits, and gives up after a minute
	Busy            bool          // the host refuses each request as one too many
	Stall           bool          // no answer until this is switched off
	KeyWiped        bool          // the guest's message key is gone
	WrongVMPL       bool          // the report names the next VMPL
	WrongReportData bool          // the report carries other report data
	GarbageTable    bool          // the certificate table points out of itself
	NoTable         bool          // the certificate table is empty
	HugeTable       bool          // the host wants a gigabyte for its table
	GrownTable      bool          // the host wants one page more than the kernel takes today
	ShortReport     bool          // the answer says another size
	ZeroKey         bool          // the derived key is all zero
	Status          uint32        // the firmware answers with this status
	FirmwareError   uint32        // the kernel fails with this firmware status
}

// kernelPatience is how long Linux tries against a host that throttles
// (SNP_REQ_MAX_RETRY_DURATION).
const kernelPatience = 60 * time.Second

// SPDX-License-Identifier: Apache-2.0

package rule

import (
	"crypto/x509"
	"time"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/tpmwire"
	"github.com/cvm-agentd/agentd/keys"
	"github.com/cvm-agentd/agentd/pcr"
	"github.com/cvm-agentd/agentd/verify/internal/quote"
	"github.com/cvm-agentd/agentd/verify/internal/replay"
	"github.com/cvm-agentd/agentd/verify/internal/sevsnp"
)

// A Subject is what an appraisal established before its policy is asked: the facts that
// the rules judge. What was not established is nil or zero.
type Subject struct {
	Material    Material
	SNP         *sevsnp.Report                                                  // nil if none was read
	AK          *tpmwire.Key                                                    // attestation key, whose name may be unknown
	Tie         Tie                                                             // what ties the vTPM to the report
	Age         Age                                                             // what the report was made for, and when
	Quote       *quote.Quote                                                    // quoted PCR values; nil if they could not be read
	Explained   func(bank pcr.Algorithm, index uint32) (byLog, byFirmware bool) // what a replay leads to, of a quoted PCR
	FirmwareLog LogState                                                        // of the firmware's event log
	Log         *replay.State                                                   // what the measurement log recorded; nil unless it was read
	LogState    LogState                                                        // of the measurement log
	Caller      *evidence.Caller                                                // caller in the statement; nil if no statement was read
	Time        time.Time                                                       // time of the appraisal

	// EKChain returns the way from the certificate in an enrolment to a root.
	EKChain func(r *keys.Enrolment, c *keys.EKCertificate, roots []*x509.Certificate) ([]*x509.Certificate, error)
}

// Material says which parts material of its kind has, whether or not they could be read.
type Material struct {
	Statement bool
	Report    bool
	Quote     bool // with the vTPM and its attestation key
}

// Tie is what ties the vTPM to the report.
type Tie struct {
	Structure Binding // as the structure of the evidence shows
	Binding   Binding // the weaker of Structure and the kind of the launch measurement
	See       string  // checks that say why Structure is BindingNone
}

// Age is what the report was made for, and when.
type Age struct {
	Freshness Freshness
	Replay    bool          // nothing was expected of a bare report
	Open      string        // checks that Freshness depends on and that did not pass
	Anchored  bool          // the evidence contains an anchor
	Known     bool          // Since was established
	Since     time.Duration // age of the anchor, by the clock of the vTPM
}

// LogState says how far reading a log came.
type LogState int

// States of a log.
const (
	LogAbsent LogState = iota
	LogUnreadable
	LogRead
)

// SPDX-License-Identifier: Apache-2.0

package rule

import (
	"crypto/x509"
	"time"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/keys"
	"github.com/cvm-agentd/agentd/pcr"
	"github.com/cvm-agentd/agentd/verify/internal/replay"
	"github.com/cvm-agentd/agentd/verify/snp"
)

// A Subject is what an appraisal established before its policy is asked: the facts that
// the rules judge. What was not established is nil or zero.
type Subject interface {
	Material() Material
	SNP() *SNP                                                           // facts of an SEV-SNP report; nil if none was read
	AK() (name keys.Name, ok bool)                                       // name of the attestation key, which may be unknown, and whether the key was established
	Tie() Tie                                                            // what ties the vTPM to the report
	Age() Age                                                            // what the report was made for, and when
	Quote() *Quote                                                       // quoted PCR values; nil if they could not be read
	Explained(bank pcr.Algorithm, index uint32) (byLog, byFirmware bool) // what a replay leads to, of a quoted PCR
	FirmwareLog() LogState                                               // state of the firmware's event log
	Log() (*replay.State, LogState)                                      // what the measurement log recorded; nil unless it was read
	Caller() *evidence.Caller                                            // caller in the statement; nil if no statement was read
	Time() time.Time                                                     // time of the appraisal

	// EKChain returns the way from the certificate in an enrolment to a root.
	EKChain(r *keys.Enrolment, c *keys.EKCertificate, roots []*x509.Certificate) ([]*x509.Certificate, error)
}

// Material says which parts material of its kind has, whether or not they could be read.
type Material struct {
	Statement bool
	Report    bool
	Quote     bool // with the vTPM and its attestation key
}

// SNP is what an SEV-SNP report and its chain say.
type SNP struct {
	*snp.Report
	Product string // line of the chain, lower case; empty if the chain was not verified
	Signer  string // "vcek" or "vlek"; empty if no certificate was found
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

// Quote is the PCR values of a quote.
type Quote struct {
	Selection pcr.Selection
	Values    pcr.Values
}

// LogState says how far reading a log came.
type LogState int

// States of a log.
const (
	LogAbsent LogState = iota
	LogUnreadable
	LogRead
)

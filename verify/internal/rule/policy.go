// SPDX-License-Identifier: Apache-2.0

// Package rule has the rules of a policy, a file for each subject: launch, machine, guest
// policy, and so on. A rule is written in one file:
//
//   - Its key is a field of a struct, which is both the text form and the Go form. The tags
//     of the field give the key, the values that it may have, its default, and its words for
//     docs/policy.md. The zero value of a field means that the key is absent.
//   - The methods of the struct check other values, refuse conflicts with other rules, say
//     in words what the rule demands, write it for a golden machine, and judge a [Subject].
//   - A list next to the struct defines the checks of evidence, with their ids.
//
// Byte strings are lower-case hexadecimal in both forms, as in the claims of package verify.
package rule

import (
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"time"

	"github.com/pelletier/go-toml/v2"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/stricttoml"
	"github.com/cvm-agentd/agentd/internal/tpmwire"
	"github.com/cvm-agentd/agentd/keys"
	"github.com/cvm-agentd/agentd/pcr"
	"github.com/cvm-agentd/agentd/verify/internal/check"
	"github.com/cvm-agentd/agentd/verify/internal/quote"
	"github.com/cvm-agentd/agentd/verify/internal/replay"
	"github.com/cvm-agentd/agentd/verify/internal/sevsnp"
)

// Version is the version of a policy that this package reads.
const Version = 1

// MaxText is the largest policy text that is read, in bytes.
const MaxText = 4 << 20

// A Policy says which evidence is acceptable. Its fields are the keys of docs/policy.md:
// p.Products is "products", p.GuestPolicy.AllowDebug is "guest_policy.allow_debug". The
// zero value of a field means that the key is absent, so its default applies.
//
// [Policy.Check] checks a policy that was built or changed in Go; [Parse] has done so.
type Policy struct {
	Version int `toml:"version" default:"required" doc:"version of this format: 1"`

	MachineRules
	LaunchRules
	VMPLRules
	GuestRules
	PlatformRules
	TCBRules
	FirmwareRules
	ImageRules
	BindingRules
	GCPRules
	AKRules
	FreshnessRules
	PCRRules
	StartRules
	LogRules
	IMARules
	AgentRules
	AppRules
	EventRules
	ContainerRules
	CallerRules
	BasisRules

	surveys       bool            // it accepts everything genuine, see [Survey]
	text, encoded evidence.Digest // of the text that was parsed, and of its encoding; zero if built in Go
}

// subject is the rules about one subject.
type subject interface {
	values(f *faults)                                        // checks of values that tags do not describe
	conflicts(p *Policy, f *faults)                          // refuses rules that no evidence could meet, and rules that would be ignored
	explain(p *Policy, w *Words)                             // says in words what is demanded and what is not
	survey()                                                 // sets rules that accept everything genuine
	draft(g *Golden, d *Draft)                               // writes rules that accept a golden machine
	judge(p *Policy, s *Subject, f *check.Findings)          // judges evidence
	judgeSNP(p *Policy, m *sevsnp.Report, f *check.Findings) // judges a report, if one was read
	compile() error                                          // readies a copy that does not change
}

// quiet is embedded by rules that lack one of these methods.
type quiet struct{}

func (quiet) values(*faults)                                    {}
func (quiet) conflicts(*Policy, *faults)                        {}
func (quiet) survey()                                           {}
func (quiet) draft(*Golden, *Draft)                             {}
func (quiet) judge(*Policy, *Subject, *check.Findings)          {}
func (quiet) judgeSNP(*Policy, *sevsnp.Report, *check.Findings) {}
func (quiet) compile() error                                    { return nil }

// subjects returns the rules in the order in which their checks run and are listed.
func (p *Policy) subjects() []subject {
	return []subject{
		&p.MachineRules, &p.LaunchRules, &p.VMPLRules, &p.GuestRules, &p.PlatformRules, &p.TCBRules, &p.FirmwareRules, &p.ImageRules,
		&p.BindingRules, &p.GCPRules, &p.AKRules, &p.FreshnessRules, &p.PCRRules, &p.StartRules, &p.LogRules, &p.IMARules, &p.AgentRules, &p.AppRules, &p.EventRules, &p.ContainerRules, &p.CallerRules,
		&p.BasisRules,
	}
}

// Definitions returns the definitions of the checks of all rules, in their order.
func Definitions() []check.Definition {
	return slices.Concat(machineChecks, launchChecks, vmplChecks, guestChecks, platformChecks, tcbChecks, firmwareChecks, imageChecks,
		bindingChecks, gcpChecks, akChecks, freshnessChecks, pcrChecks, startChecks, logChecks, imaChecks, agentChecks, appChecks, execChecks, eventChecks, containerChecks, callerChecks, basisChecks)
}

// Judge records the checks of all rules. A check whose part of the evidence could not be
// read stays open.
func (p *Policy) Judge(s *Subject, f *check.Findings) {
	for _, r := range p.subjects() {
		if m := s.SNP; m != nil {
			r.judgeSNP(p, m, f)
		}
		r.judge(p, s, f)
	}
}

// Parse parses a policy in TOML and checks it. Unknown keys, wrong types, values out of
// range and rules that contradict each other are errors of type *[Error], joined if there
// are several; so is a policy that says nothing.
func Parse(text []byte) (*Policy, error) {
	p := new(Policy)
	places, err := stricttoml.Decode(text, MaxText, p)
	if e := (*stricttoml.Error)(nil); errors.As(err, &e) {
		return nil, (*Error)(e)
	}
	if err == nil && places.Empty() {
		return nil, &Error{Message: "it is empty: an empty policy would accept everything; docs/policy.md shows a small one"}
	}
	if err == nil {
		err = p.check(places)
	}
	if err != nil {
		return nil, err
	}
	p.text, p.encoded = sha256.Sum256(text), sha256.Sum256(p.encode())
	return p, nil
}

// Check checks all values and refuses rules that contradict each other, with errors of
// type *[Error] that name the key.
func (p *Policy) Check() error { return p.check(nil) }

func (p *Policy) check(places *stricttoml.Places) error {
	f := &faults{places: places}
	switch {
	case p.Version == 0 && !f.given("version", false):
		f.fail("version", "missing: want version = %d", Version)
	case p.Version != Version:
		f.fail("version", "%d is not known: want %d", p.Version, Version)
	}
	f.values("", reflect.ValueOf(p).Elem())
	for _, s := range p.subjects() {
		s.values(f)
	}
	if len(f.all) == 0 { // a value that was refused would contradict others for no reason
		for _, s := range p.subjects() {
			s.conflicts(p, f)
		}
	}
	return f.err()
}

// Encode checks p and encodes it in TOML. [Parse] of the text gives an equal policy.
func (p *Policy) Encode() ([]byte, error) {
	if err := p.Check(); err != nil {
		return nil, err
	}
	return p.encode(), nil
}

func (p *Policy) encode() []byte {
	text, err := toml.Marshal(p)
	if err != nil { // the types of the fields are a mistake of this package
		panic(err)
	}
	return text
}

// Digest returns the SHA-256 of the text that p was parsed from. For a policy that was
// built or changed in Go it is that of [Policy.Encode].
func (p *Policy) Digest() evidence.Digest {
	if d := evidence.Digest(sha256.Sum256(p.encode())); d != p.encoded {
		return d
	}
	return p.text
}

// Compiled is a checked copy of a policy, ready to judge. It does not change with the
// policy that it was made from, and many goroutines may use it.
type Compiled struct {
	Policy
	Sum evidence.Digest // Policy.Digest
}

// Compile checks p and copies it.
func (p *Policy) Compile() (*Compiled, error) {
	text, err := p.Encode()
	if err != nil {
		return nil, err
	}
	c := &Compiled{Sum: p.Digest()}
	if err := toml.Unmarshal(text, &c.Policy); err != nil {
		return nil, fmt.Errorf("policy: copy: %w", err)
	}
	c.surveys = p.surveys
	for _, s := range c.subjects() {
		if err := s.compile(); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// Survey returns a policy that accepts everything genuine. With it, an appraisal finds out
// what a machine is, not whether it is acceptable: it is for drafts alone.
func Survey() *Policy {
	p := &Policy{Version: Version, surveys: true}
	for _, s := range p.subjects() {
		s.survey()
	}
	return p
}

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
	Firmware    pcr.Values                                                      // that it leads to; nil unless it was read
	IMAState    LogState                                                        // of the list of IMA
	IMA         *replay.IMA                                                     // what it leads to; nil unless it leads to the quoted PCR 10
	Measured    *Measured                                                       // what its entries came to; likewise
	Log         *replay.State                                                   // what the measurement log recorded; nil unless it was read
	LogState    LogState                                                        // of the measurement log
	Continued   replay.Continued                                                // relation of the measurement log to the known one
	NewHistory  bool                                                            // the caller begins a new history
	Caller      *evidence.Caller                                                // caller in the statement; nil if no statement was read
	Time        time.Time                                                       // time of the appraisal

	Enrolments   *keys.Enrolments // apart from the policy; nil if the verifier was given none
	Certificates [][]byte         // X.509 DER of the evidence and of the verifier, unverified

	// Chain returns the way from the first of certificates, which c is about, to a root.
	Chain func(certificates [][]byte, c Certified, roots []*x509.Certificate) ([]*x509.Certificate, error)
	// OnGoogle is told which machine the certificate of the AK names, if nothing is wrong with
	// that. It may be nil.
	OnGoogle func(*keys.GoogleInstance)
}

// Certified is the certificate of a key with those of issuers.
type Certified interface {
	Chain(roots []*x509.Certificate, now time.Time) ([]*x509.Certificate, error)
	CheckValidity(chain []*x509.Certificate, now time.Time) error
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
	Binding   Binding // Structure, if the launch measurement is listed as of that kind; at most guest-asserted if not
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

	GuestKnown bool          // ByGuest was established
	ByGuest    time.Duration // age of the anchor, by the guest's clock
}

// LogState says how far reading a log came.
type LogState int

// States of a log.
const (
	LogAbsent LogState = iota
	LogUnreadable
	LogRead
)

// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"crypto/sha512"
	"errors"
	"flag"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/cvm-agentd/agentd/internal/config"
	device "github.com/cvm-agentd/agentd/internal/platform/snp"
	"github.com/cvm-agentd/agentd/internal/platform/soft"
	"github.com/cvm-agentd/agentd/verify/snp"
)

// simulation is what the software platform is to be.
type simulation struct {
	product snp.Product
	version uint64
	spacing time.Duration
	faults  soft.Faults
	raise   levels // of the TCB above the usual one
	mask    bool   // the chip's id in reports
	launch  string // what is launched; empty: the usual guest
	debug   bool   // allowed by the guest policy

	signer snp.Signer // of reports
	csp    string     // cloud that a VLEK belongs to
}

// levels are versions of parts of the TCB.
type levels struct{ snp, microcode uint }

// flags defines the flags of the platform.
func (s *simulation) flags(f *flag.FlagSet) {
	s.product, s.version = snp.Milan, 3
	f.Func("product", "", func(name string) error {
		for _, p := range snp.Products() {
			if strings.EqualFold(p.String(), name) {
				s.product = p
				return nil
			}
		}
		return fmt.Errorf("want milan, genoa or turin")
	})
	f.Uint64Var(&s.version, "report-version", s.version, "")
	f.UintVar(&s.raise.snp, "raise-tcb", 0, "")
	f.UintVar(&s.raise.microcode, "raise-microcode", 0, "")
	f.BoolVar(&s.mask, "mask-chip-id", false, "")
	f.StringVar(&s.launch, "launch", "", "")
	f.BoolVar(&s.debug, "allow-debug", false, "")
	f.DurationVar(&s.spacing, "spacing", 0, "")
	f.Func("fault", "", s.fault)
}

// switches are the faults without a value.
func (s *simulation) switches() map[string]*bool {
	return map[string]*bool{
		"busy": &s.faults.Busy, "stall": &s.faults.Stall, "key-wiped": &s.faults.KeyWiped,
		"wrong-vmpl": &s.faults.WrongVMPL, "wrong-report-data": &s.faults.WrongReportData,
		"garbage-table": &s.faults.GarbageTable, "zero-key": &s.faults.ZeroKey, "constant-key": &s.faults.ConstantKey,
		"no-table": &s.faults.NoTable, "short-report": &s.faults.ShortReport,
	}
}

// fault switches one fault on.
func (s *simulation) fault(text string) (err error) {
	name, value, given := strings.Cut(text, "=")
	on, known := s.switches()[name]
	switch {
	case known && given:
		return fmt.Errorf("%s takes no value", name)
	case known:
		*on = true
	case name == "throttle":
		if s.faults.Throttle, err = time.ParseDuration(value); err != nil || s.faults.Throttle <= 0 {
			return errors.New("throttle wants a time, as throttle=10s")
		}
	case name == "ignores" && value == "vmpl":
		s.faults.IgnoredVMPL = true
	case name == "ignores" && value == "root":
		s.faults.IgnoredRoot = true
	case name == "ignores" && soft.Fields()[value] != 0:
		s.faults.IgnoredFields |= soft.Fields()[value]
	case name == "status":
		var n uint64
		if n, err = strconv.ParseUint(value, 0, 32); err != nil || n == 0 {
			return errors.New("status wants a number that is not 0, as status=0x16")
		}
		s.faults.Status = uint32(n)
	case name == "ignores":
		return fmt.Errorf("ignores=%q is not known: agentd-sim --help lists them", value)
	default:
		return fmt.Errorf("%q is not known", name)
	}
	return err
}

// spaced returns the least time between two reports.
func (s *simulation) spaced(c config.Config) time.Duration {
	return cmp.Or(s.spacing, time.Duration(c.Report.Spacing))
}

// start launches the guest on the software platform that dir keeps. If same is set, the guest
// runs already: only its agent starts.
func (s *simulation) start(dir string, c config.Config, same bool) (*soft.Platform, error) {
	o := soft.Options{
		Directory: dir, SameLaunch: same, Version: uint32(s.version), Product: s.product, VMPL: c.Report.VMPL, MaskChipID: s.mask,
		Signer: s.signer, CSPID: s.csp, LeafAlone: s.signer == snp.SignerVLEK,
		Device: device.Options{Spacing: s.spaced(c), Timeout: time.Duration(c.Report.Timeout)},
	}
	if s.launch != "" {
		o.Measurement = sha512.Sum384([]byte("agentd-sim launch: " + s.launch))
	}
	if s.debug {
		o.Policy = snp.PolicyReservedOne | snp.PolicySMT | snp.PolicyDebug
	}
	var err error
	if o.TCB, err = raised(s.product, s.raise); err != nil {
		return nil, err
	}
	p, err := soft.New(o)
	if err != nil {
		return nil, err
	}
	p.SetFaults(s.faults)
	return p, nil
}

// raised returns the usual TCB of p with firmware and microcode that are by levels newer.
func raised(p snp.Product, by levels) (snp.TCB, error) {
	all, _, err := soft.UsualTCB(p).Components(p)
	if err != nil {
		return 0, err
	}
	flags := map[snp.Component]struct {
		name string
		by   uint
	}{snp.SNP: {"--raise-tcb", by.snp}, snp.Microcode: {"--raise-microcode", by.microcode}}
	for i := range all {
		l, f := &all[i], flags[all[i].Component]
		if f.by > uint(0xff-l.Value) {
			return 0, fmt.Errorf("%s %d: that version is %d and ends at 255", f.name, f.by, l.Value)
		}
		l.Value += uint8(f.by)
	}
	return snp.ComposeTCB(p, all)
}

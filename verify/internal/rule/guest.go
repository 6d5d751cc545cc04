// SPDX-License-Identifier: Apache-2.0

package rule

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/cvm-agentd/agentd/verify/internal/check"
	"github.com/cvm-agentd/agentd/verify/internal/sevsnp"
	"github.com/cvm-agentd/agentd/verify/snp"
)

// GuestRules are rules about what the guest's owner allowed the host at launch.
type GuestRules struct {
	quiet
	GuestPolicy GuestPolicy `toml:"guest_policy,omitempty"`
}

// GuestPolicy is [guest_policy].
type GuestPolicy struct {
	AllowDebug              bool   `toml:"allow_debug,omitempty" default:"false" doc:"accept guests whose memory the host may read and write"`
	AllowMigrationAgent     bool   `toml:"allow_migration_agent,omitempty" default:"false" doc:"accept guests whose memory a migration agent may hand on"`
	AllowSMT                *bool  `toml:"allow_smt,omitempty" default:"true" doc:"accept guests that may share a core with another thread"`
	AllowCXL                bool   `toml:"allow_cxl,omitempty" default:"false" doc:"accept guests that may have CXL memory, outside the processor"`
	AllowReservedBits       bool   `toml:"allow_reserved_bits,omitempty" default:"false" doc:"accept bits without a name"`
	RequireSingleSocket     bool   `toml:"require_single_socket,omitempty" default:"false" doc:"the guest must run on one socket"`
	RequireAES256XTS        bool   `toml:"require_aes_256_xts,omitempty" default:"false" doc:"the guest must ask for AES-256-XTS memory encryption"`
	RequireRAPLDisabled     bool   `toml:"require_rapl_disabled,omitempty" default:"false" doc:"the guest must ask for power measurement to be off"`
	RequireCiphertextHiding bool   `toml:"require_ciphertext_hiding,omitempty" default:"false" doc:"the guest must ask for its ciphertext to be hidden from the host"`
	RequirePageSwapDisabled bool   `toml:"require_page_swap_disabled,omitempty" default:"false" doc:"the guest must forbid the host to move and swap its pages"`
	MinABI                  string `toml:"min_abi,omitempty" default:"any" doc:"least firmware ABI that the guest asks for, as |\"1.55\"|; never |\"0.0\"|"`
}

// guestBit is a bit of the guest policy that allows the host something, or demands a
// protection. Its words are complete sentences.
type guestBit struct {
	bit          snp.Policy
	set          bool     // the rule about it
	id           check.ID // of its own check; empty for further protections
	key          string
	allows       string // words for a check; for a protection its name
	demand       string
	open, danger string // if the policy does not demand it; empty: not said
	golden       string // danger in the state of a golden machine
}

// permissions returns the bits that allow the host something.
func (g *GuestPolicy) permissions() []guestBit {
	return []guestBit{
		{bit: snp.PolicyDebug, set: g.AllowDebug, id: "policy.debug", key: "allow_debug", allows: "the host to debug the guest, which means to read and write its memory",
			demand: "The host may not debug the guest.", danger: "guest_policy.allow_debug: the host may read and write all memory of the guest. Nothing in it is confidential.",
			golden: "the host may read and write all memory of this guest. Nothing in it is confidential."},
		{bit: snp.PolicyMigrationAgent, set: g.AllowMigrationAgent, id: "policy.migration-agent", key: "allow_migration_agent", allows: "a migration agent, which can hand the guest's memory to another machine",
			demand: "The guest has no migration agent.", danger: "guest_policy.allow_migration_agent: a migration agent may hand the guest's memory to another machine.",
			golden: "a migration agent may hand this guest's memory to another machine."},
		{bit: snp.PolicyCXL, set: g.AllowCXL, id: "policy.cxl", key: "allow_cxl", allows: "CXL memory",
			demand: "The guest has no CXL memory.", danger: "guest_policy.allow_cxl: memory of the guest may lie on devices outside the processor.",
			golden: "memory of this guest may lie on CXL devices, outside the processor."},
	}
}

// protections returns the bits that demand a protection of the guest's memory.
func (g *GuestPolicy) protections() []guestBit {
	return []guestBit{
		{bit: snp.PolicySingleSocket, set: g.RequireSingleSocket, id: "policy.single-socket", key: "require_single_socket", demand: "The guest runs on one socket.", open: "Whether the guest spans sockets."},
		{bit: snp.PolicyAES256XTS, set: g.RequireAES256XTS, key: "require_aes_256_xts", allows: "AES-256-XTS", demand: "The guest asks for AES-256-XTS memory encryption."},
		{bit: snp.PolicyRAPLDisabled, set: g.RequireRAPLDisabled, key: "require_rapl_disabled", allows: "RAPL disabled", demand: "The guest asks for power measurement to be off."},
		{bit: snp.PolicyCiphertextHiding, set: g.RequireCiphertextHiding, key: "require_ciphertext_hiding", allows: "ciphertext hiding", demand: "The guest asks for its ciphertext to be hidden from the host.", open: "Whether the host sees the ciphertext of guest memory."},
		{bit: snp.PolicyPageSwapDisabled, set: g.RequirePageSwapDisabled, key: "require_page_swap_disabled", allows: "page swap disabled", demand: "The guest forbids the host to move and swap its pages."},
	}
}

var guestChecks = []check.Definition{
	{ID: "policy.debug", Class: check.Policy, Ground: check.OnProcessor, Checks: "the host may not debug the guest", Stops: "the host reading and writing all guest memory, under an unchanged measurement"},
	{ID: "policy.migration-agent", Class: check.Policy, Ground: check.OnProcessor, Checks: "the guest has no migration agent", Stops: "the guest's state handed to another machine"},
	{ID: "policy.smt", Class: check.Policy, Ground: check.OnProcessor, Checks: "the guest allows SMT only if the policy says so", Stops: "side channels from a sibling thread"},
	{ID: "policy.single-socket", Class: check.Policy, Ground: check.OnProcessor, Checks: "the guest is limited to one socket if the policy asks for it", Stops: "traffic between sockets"},
	{ID: "policy.cxl", Class: check.Policy, Ground: check.OnProcessor, Checks: "the guest allows CXL memory only if the policy says so", Stops: "guest memory on devices outside the processor"},
	{ID: "policy.guest-abi", Class: check.Policy, Ground: check.OnProcessor, Checks: "the guest asked for at least the ABI version that the policy names", Stops: "older firmware interfaces"},
	{ID: "policy.guest-features", Class: check.Policy, Ground: check.OnProcessor, Checks: "the guest asked for the memory protections that the policy names", Stops: "weaker memory encryption, power side channels, ciphertext visible to the host"},
	{ID: "policy.guest-reserved", Class: check.Policy, Ground: check.OnProcessor, Checks: "no guest policy bit is set that this version cannot name, and the bit that must be one is", Stops: "a permission without a known meaning"},
}

// memoryChecks are the checks of what lets the host be anything that was measured: reading
// and writing the guest's memory, having it moved elsewhere, or a permission of unknown
// meaning.
var memoryChecks = []check.ID{"policy.debug", "policy.migration-agent", "policy.guest-reserved"}

// memoryClosed reports whether the host has none of that.
func memoryClosed(f *check.Findings) bool {
	return !slices.ContainsFunc(memoryChecks, func(id check.ID) bool { return !f.Passed(id) })
}

// opensMemory reports whether a rule accepts that the host has some of that.
func (g *GuestPolicy) opensMemory() bool {
	return g.AllowDebug || g.AllowMigrationAgent || g.AllowReservedBits
}

// refusedMemory returns the check that failed because the host has power over the guest's
// memory, if one did.
func refusedMemory(f *check.Findings) check.ID {
	for _, id := range memoryChecks {
		if f.Verdict(id) == check.Fail {
			return id
		}
	}
	return ""
}

func (r *GuestRules) values(f *faults) {
	const key = "guest_policy.min_abi"
	v := r.GuestPolicy.MinABI
	if !f.given(key, v != "") {
		return
	}
	if major, minor := r.GuestPolicy.abi(); fmt.Sprintf("%d.%d", major, minor) != v {
		f.fail(key, `%q is not a version of the form "1.55"`, v)
	} else if major == 0 && minor == 0 {
		f.fail(key, "%q demands nothing: leave it out if any version is acceptable", v)
	}
}

// abi returns the least ABI version, 0.0 if absent or malformed.
func (g *GuestPolicy) abi() (major, minor uint8) {
	a, b, _ := strings.Cut(g.MinABI, ".")
	x, err := strconv.ParseUint(a, 10, 8)
	y, err2 := strconv.ParseUint(b, 10, 8)
	if err != nil || err2 != nil {
		return 0, 0
	}
	return uint8(x), uint8(y)
}

func (g *GuestPolicy) allowsSMT() bool { return g.AllowSMT == nil || *g.AllowSMT }

func (r *GuestRules) explain(_ *Policy, w *Words) {
	g := &r.GuestPolicy
	for _, x := range append(g.permissions(), guestBit{set: g.AllowReservedBits, demand: "The guest policy has no bit that this version cannot name.",
		danger: "guest_policy.allow_reserved_bits: permissions of unknown meaning are accepted."}) {
		w.tolerates(x.set, x.danger, x.demand)
	}
	for _, x := range append(g.protections(),
		guestBit{set: !g.allowsSMT(), demand: "The guest shares no core with another thread.", open: "Whether another thread runs on the guest's cores (SMT)."},
		guestBit{set: g.MinABI != "", demand: fmt.Sprintf("The guest asks for firmware ABI %s or later.", g.MinABI)}) {
		w.demandIf(x.set, "%s", x.demand)
		w.openIf(!x.set && x.open != "", "%s", x.open)
	}
}

func (r *GuestRules) survey() {
	r.GuestPolicy = GuestPolicy{AllowDebug: true, AllowMigrationAgent: true, AllowCXL: true, AllowReservedBits: true}
}

func (*GuestRules) draft(g *Golden, d *Draft) {
	p, t := g.SNP.Policy, &d.tables
	t.offer("What the guest's owner allowed the host. The launch measurement does not cover these bits.", "[guest_policy]\nallow_smt = %t", p.Has(snp.PolicySMT))
	rules := new(GuestPolicy)
	for _, x := range rules.permissions() {
		t.dangerIf(p.Has(x.bit), x.key+" = true", "%s", x.golden)
	}
	t.dangerIf(p.Wellformed() != nil, "allow_reserved_bits = true", "the guest policy contains bits that this version cannot name.")
	for _, x := range rules.protections() {
		t.lineIf(p.Has(x.bit), "%s = true", x.key)
	}
	t.lineIf(p.ABIMajor() != 0 || p.ABIMinor() != 0, "min_abi = \"%d.%d\"", p.ABIMajor(), p.ABIMinor())
	t.line("")
}

// judgeSNP judges the guest policy, which the measurement does not cover.
func (r *GuestRules) judgeSNP(_ *Policy, m *sevsnp.Report, f *check.Findings) {
	g, p := &r.GuestPolicy, m.Policy
	bits := g.permissions()
	if !f.SkipIf(g.allowsSMT(), "policy.smt", "the policy allows SMT") {
		bits = append(bits, guestBit{bit: snp.PolicySMT, id: "policy.smt", allows: "SMT"})
	}
	for _, x := range bits {
		// A pass would say that the guest does not allow it.
		if !f.SkipIf(x.set && p.Has(x.bit), x.id, "the policy accepts it: the guest policy allows %s", x.allows) {
			f.Decide(x.id, !p.Has(x.bit), "not allowed by the guest policy", p.String(), "the guest policy allows %s", x.allows)
		}
	}
	if !f.SkipIf(g.MinABI == "", "policy.guest-abi", "the policy names no ABI version") {
		major, minor := g.abi()
		ok := p.ABIMajor() > major || p.ABIMajor() == major && p.ABIMinor() >= minor
		f.Decide("policy.guest-abi", ok, "at least "+g.MinABI, fmt.Sprintf("%d.%d", p.ABIMajor(), p.ABIMinor()), "the guest policy asks for an older firmware ABI")
	}
	g.judgeProtections(p, f)
	fault := p.Wellformed()
	if !f.SkipIf(fault != nil && g.AllowReservedBits, "policy.guest-reserved", "the policy allows it: %v", fault) {
		f.DecideError("policy.guest-reserved", fault)
	}
}

func (g *GuestPolicy) judgeProtections(p snp.Policy, f *check.Findings) {
	var asked, missing []string
	for _, x := range g.protections() {
		switch {
		case x.id != "" && !x.set:
			f.Skip(x.id, "the policy does not ask for a single socket")
		case x.id != "":
			f.Decide(x.id, p.Has(x.bit), "one socket", p.String(), "the guest policy allows more than one socket")
		case x.set:
			asked = append(asked, x.allows)
			if !p.Has(x.bit) {
				missing = append(missing, x.allows)
			}
		}
	}
	if !f.SkipIf(len(asked) == 0, "policy.guest-features", "the policy asks for no further protection") {
		f.Decide("policy.guest-features", len(missing) == 0, strings.Join(asked, ", "), "without "+strings.Join(missing, ", "),
			"the guest policy does not ask for %s", strings.Join(missing, ", "))
	}
}

// SPDX-License-Identifier: Apache-2.0

package rule

import (
	"cmp"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/cvm-agentd/agentd/verify/internal/check"
	"github.com/cvm-agentd/agentd/verify/internal/sevsnp"
	"github.com/cvm-agentd/agentd/verify/snp"
)

// MachineRules are rules about the processor and the key that signed the report.
type MachineRules struct {
	quiet
	Products         []string `toml:"products,omitempty" value:"later" default:"[\"genoa\", \"turin\"]" doc:"processor lines: |milan|, |genoa| (with Bergamo and Siena), |turin|. Milan must be named: there is hardware that attacks its memory, and no newer firmware undoes that"`
	Signers          []string `toml:"signers,omitempty" value:"one vcek vlek" default:"[\"vcek\"]" doc:"keys that may sign reports: |vcek| belongs to one chip, |vlek| to a cloud, which could load it into any of its machines: |vlek_csps| must be given too. AWS signs with a VLEK"`
	VLEKCSPs         []string `toml:"vlek_csps,omitempty" value:"name" default:"none" doc:"with |vlek|, required: clouds whose VLEK may sign, by the CSP id in its certificate, as |agentctl show| prints it. AWS has one for each region, such as |CN=cc-us-east-2.amazonaws.com|"`
	MinReportVersion int      `toml:"min_report_version,omitempty" value:"range 2 5" default:"2" doc:"2 to 5. What an older report does not state is unknown, never a pass"`
	Chips            []string `toml:"chips,omitempty" value:"hex 8 64" default:"any" doc:"chip ids that are accepted: 64 bytes, on Turin the 8 that count, or these and 56 zeros. Not together with |vlek| in |signers|: such reports show no chip id"`
	DeniedChips      []string `toml:"denied_chips,omitempty" value:"hex 8 64" default:"none" doc:"chip ids that are refused. Not together with |vlek| in |signers|, or with |allow_masked_chip|: such reports show no chip id, so the list could deny nothing"`
	AllowMaskedChip  bool     `toml:"allow_masked_chip,omitempty" default:"false" doc:"accept reports whose chip id the host masks: report and certificate cannot be compared then"`
	Revocation       Choice   `toml:"revocation,omitempty" value:"one required optional off" default:"\"optional\"" doc:"|required|: a current revocation list of the root must be given to the verifier. |optional|: a list is used if given. |off|"`
}

var machineChecks = []check.Definition{
	{ID: "policy.product", Class: check.Policy, Ground: check.OnProcessor, Checks: "the processor generation is one that the policy lists", Stops: "an older generation with known physical attacks, offered instead of the expected one"},
	{ID: "policy.report-version", Class: check.Policy, Ground: check.OnProcessor, Checks: "the report has at least the version that the policy asks for", Stops: "older firmware whose reports leave fields out"},
	{ID: "policy.signer", Class: check.Policy, Ground: check.OnProcessor, Checks: "the signing key is of a kind that the policy lists", Stops: "a VLEK, which belongs to a cloud, in place of a chip's own VCEK"},
	{ID: "policy.vlek-csp", Class: check.Policy, Ground: check.OnProcessor, Checks: "if a VLEK signed the report, it belongs to a cloud that the policy lists", Stops: "a machine of any other cloud that AMD gave a VLEK to"},
	{ID: "policy.chip", Class: check.Policy, Ground: check.OnProcessor, Checks: "the chip id is shown, and is in the policy's list of chips if there is one", Stops: "a machine that does not belong to the fleet, or hides which one it is"},
}

func (r *MachineRules) values(f *faults) {
	f.list("products", r.Products, append([]string{"one"}, knownProducts()...))
}

func (r *MachineRules) products() []string {
	return listOr(r.Products, "genoa", "turin")
}

func (r *MachineRules) signers() []string { return listOr(r.Signers, "vcek") }

// NeedsRevocation returns what the policy asks about revocation.
func (r *MachineRules) NeedsRevocation() Choice { return cmp.Or(r.Revocation, Optional) }

// conflicts refuses lists of chips that reports could not be compared with.
func (r *MachineRules) conflicts(p *Policy, f *faults) {
	vlek := slices.Contains(r.signers(), "vlek")
	f.failIf(vlek && len(r.VLEKCSPs) == 0 && !p.surveys, "signers", `a VLEK belongs to a cloud, and vlek_csps does not say to which: list the CSP ids that are acceptable ("agentctl show" prints that of a certificate)`)
	f.failIf(!vlek && len(r.VLEKCSPs) > 0, "vlek_csps", `signers does not contain "vlek", so no report of these clouds would be accepted: add it, or leave the list out`)
	denied := make(map[string]bool, len(r.DeniedChips))
	for _, c := range r.DeniedChips {
		denied[chipID(c)] = true
	}
	for i, c := range r.Chips {
		f.failIf(denied[chipID(c)], fmt.Sprintf("chips[%d]", i), "it is listed here and in denied_chips")
	}
	f.failIf(len(r.Chips)+len(r.DeniedChips) > 0 && r.AllowMaskedChip, "allow_masked_chip", "a masked chip id can be compared with neither chips nor denied_chips")
	f.failIf(len(r.Chips) > 0 && vlek, "chips", `reports signed by a VLEK show no chip id to compare with this list: signers must not contain "vlek"`)
	f.failIf(len(r.DeniedChips) > 0 && vlek, "denied_chips", `reports signed by a VLEK show no chip id to compare with this list: signers must not contain "vlek"`)
	for key, list := range map[string][]string{"chips": r.Chips, "denied_chips": r.DeniedChips} {
		seen := make(map[string]bool, len(list))
		for i, c := range list {
			id := chipID(c)
			at := fmt.Sprintf("%s[%d]", key, i)
			switch {
			case seen[id]:
				f.fail(at, "it is listed twice: zeros after the 8 bytes of a Turin chip say nothing")
			case len(id) == 2*turinChip && !slices.Contains(r.products(), "turin"):
				f.fail(at, `only chips of the line "turin", which products does not list, have ids of 8 bytes, so no report would match: want 64 bytes`)
			case len(id) > 2*turinChip && strings.Join(r.products(), "") == "turin":
				f.fail(at, `chips of the line "turin" have ids of 8 bytes, so no report would match: want 8 bytes`)
			}
			seen[id] = true
		}
	}
}

// turinChip is the size of a chip id on Turin, in bytes; zeros follow in the report.
const turinChip = 8

// chipID returns the part of a chip id, in hexadecimal, that tells chips apart: one chip
// has one spelling.
func chipID(id string) string {
	if len(id) > 2*turinChip && strings.Trim(id[2*turinChip:], "0") == "" {
		return id[:2*turinChip]
	}
	return id
}

// listsChip reports whether a list contains the chip of a report.
func listsChip(list []string, reported [64]byte) bool {
	id := chipID(hex.EncodeToString(reported[:]))
	return slices.ContainsFunc(list, func(c string) bool { return chipID(c) == id })
}

// knownProducts returns the processor generations by the name of AMD's root, lower case.
func knownProducts() (names []string) {
	for _, p := range snp.Products() {
		names = append(names, strings.ToLower(p.String()))
	}
	return names
}

func (r *MachineRules) explain(_ *Policy, w *Words) {
	w.demand("The processor is of the line %s.", strings.Join(r.products(), " or "))
	w.dangerIf(slices.Contains(r.products(), "milan"), "products contains milan: there is hardware that attacks its memory, and no newer firmware undoes that.")
	w.demand("The report is signed by a %s.", strings.ToUpper(strings.Join(r.signers(), " or a ")))
	w.dangerIf(slices.Contains(r.signers(), "vlek"), "signers contains vlek: such a key belongs to a cloud, which could load it into any of its machines.")
	w.demandIf(len(r.VLEKCSPs) > 0, "If a VLEK signed, it belongs to a cloud with %s: %s.", oneOf(len(r.VLEKCSPs), "CSP id"), listed(r.VLEKCSPs))
	w.demandIf(r.MinReportVersion > 2, "The report has version %d or later.", r.MinReportVersion)
	w.demandIf(len(r.Chips) > 0, "The chip is %s.", oneOf(len(r.Chips), "chip"))
	w.demandIf(len(r.DeniedChips) > 0, "The chip is %s.", noneOf(len(r.DeniedChips), "chip"))
	w.openIf(len(r.Chips)+len(r.DeniedChips) == 0, "Which chip it is: any genuine processor is accepted.")
	w.dangerIf(r.AllowMaskedChip, "allow_masked_chip: the host may hide the chip id, and report and certificate are not compared then.")
	switch r.NeedsRevocation() {
	case Required:
		w.demand("The verifier has a current revocation list of the root. No list, current or expired, lists a certificate of the chain.")
	case Optional:
		w.demand("If the verifier has a revocation list of the root, current or expired, it lists no certificate of the chain.")
		w.open("Whether a key was revoked, if no current list is given (revocation = \"required\" asks for one).")
	default:
		w.danger("revocation is off: keys that AMD withdrew are accepted.")
	}
}

func (r *MachineRules) survey() {
	r.Products, r.Signers, r.AllowMaskedChip = knownProducts(), []string{"vcek", "vlek"}, true
}

func (*MachineRules) draft(g *Golden, d *Draft) {
	r, signer := g.SNP, cmp.Or(g.SNP.Signer, strings.ToLower(g.SNP.KeyInfo.Signer().String()))
	switch {
	case !slices.Contains(knownProducts(), g.product()):
		d.root.offer("The processor is of an unknown line: name one.", "# products = [\"genoa\"]")
	case g.product() == "milan":
		d.root.danger(`products = ["milan"]`, "the machine is a Milan. There is hardware that attacks its memory, and no newer firmware undoes that.")
	default:
		d.root.offer("The processor line.", "products = [%q]", g.product())
	}
	d.root.dangerIf(signer == "vlek", `signers = ["vlek"]`, "the report is signed by a VLEK, which belongs to a cloud and not to a chip: the cloud could load it into any of its machines.")
	d.root.dangerIf(signer == "vlek" && g.SNP.CSPID != "", "vlek_csps = ["+quoted(g.SNP.CSPID)+"]", "the policy must name the cloud that the VLEK belongs to.")
	if signer != "vlek" {
		d.root.offer("A VCEK belongs to one chip.", "signers = [\"vcek\"]")
	}
	d.root.offer("What a report before this version does not state is unknown.", "min_report_version = %d", r.Version)
	if !check.Zero(r.ChipID[:]) {
		d.root.offer("To accept only this chip. A machine on a cloud may start on another chip tomorrow.", "# chips = [%s]", hexOf(r.ChipID[:]))
	} else {
		d.root.dangerIf(signer == "vcek", "allow_masked_chip = true", "the host masks the chip id, so report and certificate cannot be compared.")
	}
	d.root.offer("With \"required\", a current revocation list must be given to the verifier (\"agentctl collateral fetch\").", "revocation = \"optional\"")
}

func (r *MachineRules) judgeSNP(p *Policy, m *sevsnp.Report, f *check.Findings) {
	least := max(r.MinReportVersion, 2)
	f.Decide("policy.report-version", int64(m.Version) >= int64(least), fmt.Sprintf("at least %d", least), fmt.Sprint(m.Version),
		"the report is of version %d, and the policy wants %d or later", m.Version, least)
	if m.Product != "" {
		f.Decide("policy.product", slices.Contains(r.products(), m.Product), strings.Join(r.products(), ", "), m.Product,
			"the processor is of the line %q, which the policy does not list", m.Product)
	}
	if m.Signer == "" {
		return
	}
	f.Decide("policy.signer", slices.Contains(r.signers(), m.Signer), strings.Join(r.signers(), ", "), m.Signer,
		"the report was signed by a %s, which the policy does not list", strings.ToUpper(m.Signer))
	r.judgeCSP(p, m, f)
	id, masked := hex.EncodeToString(m.ChipID[:]), check.Zero(m.ChipID[:])
	switch {
	case len(r.Chips) > 0:
		f.Decide("policy.chip", listsChip(r.Chips, m.ChipID), oneOf(len(r.Chips), "chip"), id, "the chip is not one that the policy lists")
	case m.Signer == "vlek":
		f.Skip("policy.chip", "a VLEK names no chip, and the policy lists none")
	case masked && r.AllowMaskedChip:
		f.Skip("policy.chip", "the host masks the chip id, and the policy accepts that: report and certificate were not compared")
	default:
		f.Decide("policy.chip", !masked, "a chip id", "zero", "the host masks the chip id: report and certificate cannot be compared")
	}
}

// judgeCSP wants a VLEK of a cloud that the policy lists. AMD gives such a key to each
// cloud that asks for one.
func (r *MachineRules) judgeCSP(p *Policy, m *sevsnp.Report, f *check.Findings) {
	const id = "policy.vlek-csp"
	if f.SkipIf(m.Signer != "vlek", id, "a VCEK signed the report, which belongs to a chip and to no cloud") ||
		f.SkipIf(p.surveys, id, "the policy accepts every cloud") ||
		f.SkipIf(len(r.VLEKCSPs) == 0, id, "the policy accepts no VLEK, see policy.signer") {
		return
	}
	f.Decide(id, slices.Contains(r.VLEKCSPs, m.CSPID), "one of "+listed(r.VLEKCSPs), strconv.Quote(m.CSPID),
		"the VLEK belongs to the cloud %q, which the policy does not list", m.CSPID)
}

// listed quotes the first names of a list.
func listed(names []string) string {
	all := make([]string, len(names))
	for i, n := range names {
		all[i] = strconv.Quote(n)
	}
	return firstOf(all)
}

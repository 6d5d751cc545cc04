// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/evidencetest"
	"github.com/cvm-agentd/agentd/pcr"
	"github.com/cvm-agentd/agentd/verify/snp"
)

func repeated(b byte, n int) string { return hex.EncodeToString(bytes.Repeat([]byte{b}, n)) }

// listedAs lists the launch measurement under another kind.
func listedAs(kind string, binding string) string {
	return fmt.Sprintf("version = 1\nlog = \"optional\"\nbinding = %q\n[[launch]]\nmeasurement = %q\nkind = %q\ncovers = \"firmware\"\n",
		binding, hex.EncodeToString(evidencetest.Measurement), kind)
}

// imitation is data that a plain guest puts into the place of an SVSM's or a paravisor's.
func imitation(data string) func(*testing.T, *evidencetest.Recipe) {
	return func(_ *testing.T, r *evidencetest.Recipe) { r.Statement.UserData = []byte(data) }
}

func vlek(_ *testing.T, r *evidencetest.Recipe) { r.Report.Signer = snp.SignerVLEK }

// floors gives every component of the made TCB as floor, one of them one higher.
func floors(which string, raised string) string {
	var levels []string
	for _, l := range []struct {
		name  string
		value byte
	}{{"bootloader", evidencetest.TCB[0]}, {"tee", evidencetest.TCB[1]}, {"snp", evidencetest.TCB[6]}, {"microcode", evidencetest.TCB[7]}} {
		if l.name == raised {
			l.value++
		}
		levels = append(levels, fmt.Sprintf("%s = %d", l.name, l.value))
	}
	return fmt.Sprintf("[tcb.genoa]\n%s = { %s }\n", which, strings.Join(levels, ", "))
}

// signedImage begins an [image] whose ID block is signed as that of a recipe.
var signedImage = "[image]\nid_key_digests = [\"" + hex.EncodeToString(evidencetest.IDKey) + "\"]\n"

var machinePolicyMutations = append([]mutation{
	{id: PolicyProduct, name: "another generation", root: `products = ["milan", "turin"]`},
	{id: PolicyReportVersion, name: "too old", root: `min_report_version = 5`, recipe: body(version3)},
	{id: PolicySigner, name: "case 58 VLEK instead of VCEK", recipe: vlek},
	{id: PolicySigner, name: "VCEK instead of VLEK", root: "signers = [\"vlek\"]\nvlek_csps = [\"test cloud 1\"]"},
	{id: PolicyVLEKCSP, name: "case 58 VLEK of another cloud", root: "signers = [\"vcek\", \"vlek\"]\nvlek_csps = [\"test cloud 2\"]", recipe: vlek},
	{id: PolicyVLEKCSP, name: "case 58 names are compared as a whole", root: "signers = [\"vlek\"]\nvlek_csps = [\"test cloud\", \"test cloud 10\"]", recipe: vlek},
	{id: PolicyChip, name: "case 58 masked chip id", recipe: body(func(b []byte) { clear(b[evidencetest.AtChipID : evidencetest.AtChipID+64]) })},
	{id: PolicyChip, name: "not of the fleet", root: `chips = ["` + repeated(0x64, 64) + `"]`},
	{id: PolicyChip, name: "eight bytes are not a chip of 64", root: `chips = ["` + repeated(0x63, 8) + `"]`},
	{id: PolicyLaunch, name: "unlisted measurement", recipe: body(func(b []byte) { b[evidencetest.AtMeasurement+47] ^= 1 })},
	{id: PolicyDenied, name: "chip", root: `denied_chips = ["` + repeated(0x63, 64) + `"]`},
	{id: PolicyDenied, name: "measurement", policy: "version = 1\nunlisted_launch = \"allow\"\ndenied_measurements = [\"" + repeated(0x4d, 48) + "\"]\n"},
	{id: PolicyVMPL, name: "case 55 VMPL 1", recipe: body(le32(evidencetest.AtVMPL, 1))},
	{id: PolicyVMPL, name: "case 55 VMPL 2", recipe: body(le32(evidencetest.AtVMPL, 2))},
	{id: PolicyVMPL, name: "case 55 VMPL 3", recipe: body(le32(evidencetest.AtVMPL, 3))},
	{id: PolicyVMPL, name: "the host asked", recipe: body(le32(evidencetest.AtVMPL, 1<<32-1))},
	{id: PolicyDebug, name: "case 54", recipe: body(setPolicy(1 << 19))},
	{id: PolicyMigrationAgent, name: "case 54", recipe: body(setPolicy(1 << 18))},
	{id: PolicyCXL, name: "case 54", recipe: body(setPolicy(1 << 21))},
	{id: PolicySMT, name: "case 54", tables: "[guest_policy]\nallow_smt = false"},
	{id: PolicySingleSocket, name: "case 54", tables: "[guest_policy]\nrequire_single_socket = true"},
	{id: PolicyGuestABI, name: "minor", tables: "[guest_policy]\nmin_abi = \"1.56\""},
	{id: PolicyGuestABI, name: "major", tables: "[guest_policy]\nmin_abi = \"2.0\""},
	{id: PolicyGuestFeatures, name: "AES-256-XTS", tables: "[guest_policy]\nrequire_aes_256_xts = true"},
	{id: PolicyGuestFeatures, name: "RAPL", tables: "[guest_policy]\nrequire_rapl_disabled = true"},
	{id: PolicyGuestFeatures, name: "ciphertext hiding", tables: "[guest_policy]\nrequire_ciphertext_hiding = true"},
	{id: PolicyGuestFeatures, name: "page swap", tables: "[guest_policy]\nrequire_page_swap_disabled = true"},
	{id: PolicyGuestReserved, name: "case 54 bit 17 clear", recipe: body(func(b []byte) { b[evidencetest.AtPolicy+2] &^= 1 << 1 })},
	{id: PolicyPlatform, name: "case 57 required bit clear", tables: "[platform]\nrequire = [\"ciphertext_hiding\"]"},
	{id: PolicyPlatform, name: "case 57 unknown in an old report", tables: "[platform]\nrequire = [\"alias_check_complete\"]", recipe: body(func(b []byte) {
		version3(b)
		b[evidencetest.AtPlatformInfo] &^= 1 << 5
	})},
	{id: PolicyPlatform, name: "refused bit set", tables: "[platform]\nrefuse = [\"tsme\"]"},
	{id: PolicyPlatformReserved, name: "bit 6", tables: "[platform]\nunknown_bits = \"refuse\"", recipe: body(func(b []byte) { b[evidencetest.AtPlatformInfo] |= 1 << 6 })},
	{id: PolicyProvisional, name: "TCB", recipe: body(func(b []byte) { b[evidencetest.AtCurrentTCB+7]++ })},
	{id: PolicyProvisional, name: "version", recipe: body(func(b []byte) { b[0x1E8]++ })},
	{id: PolicyMitigations, name: "at launch", root: "min_report_version = 5", tables: "[mitigations]\nlaunch = 4"},
	{id: PolicyMitigations, name: "now", root: "min_report_version = 5", tables: "[mitigations]\ncurrent = 4"},
	{id: PolicyMitigations, name: "case 57 not stated", tables: "[mitigations]\ncurrent = 1", recipe: body(version3)},
	{id: PolicyGuestSVN, name: "too old", tables: signedImage + "min_guest_svn = 3"},
	{id: PolicyFamilyID, name: "another", tables: signedImage + "family_id = \"" + repeated(1, 16) + "\""},
	{id: PolicyImageID, name: "another", tables: signedImage + "image_id = \"" + repeated(1, 16) + "\""},
	{id: PolicyHostData, name: "another", tables: "[image]\nhost_data = [\"" + repeated(1, 32) + "\"]"},
	{id: PolicyIDKey, name: "case 61 missing", tables: "[image]\nid_key_digests = [\"" + repeated(0x69, 48) + "\"]", recipe: body(func(b []byte) {
		clear(b[evidencetest.AtIDKey : evidencetest.AtIDKey+48])
	})},
	{id: PolicyAuthorKey, name: "case 61 another", tables: "[image]\nauthor_key_digests = [\"" + repeated(1, 48) + "\"]"},

	{id: PolicyBinding, name: "case 93 listed as plain", policy: listedAs("plain", "paravisor") + "[[launch]]\nmeasurement = \"" + repeated(9, 48) + "\"\nkind = \"paravisor\"\ncovers = \"firmware\"\n"},
	{id: PolicyBinding, name: "case 93 listed as paravisor, the structure is ours", policy: listedAs("paravisor", "paravisor")},
	{id: PolicyBinding, name: "case 93 listed as svsm, the structure is ours", policy: listedAs("svsm", "svsm")},
	{id: PolicyBinding, name: "case 90 imitates a paravisor", policy: listedAs("paravisor", "paravisor"), recipe: imitation(`{"keys":[{"kid":"HCLAkPub"}],"user-data":""}`)},
	{id: PolicyBinding, name: "case 90 imitates an SVSM", policy: listedAs("svsm", "svsm"), recipe: imitation("\x00\x00\x00\x01\x00\x00\x00\x02")},
	{id: PolicyAK, name: "case 65 not enrolled", root: `ak_names = ["000b` + repeated(1, 32) + `"]`},
	{id: PolicyAK, name: "case 65 another is enrolled", tables: enrolment(repeated(1, 32), "CN=TPM root")},
	{id: PolicyFreshness, name: "anchored", recipe: func(_ *testing.T, r *evidencetest.Recipe) { anchored(r) }},
	{id: PolicyAnchorAge, name: "too old", root: "freshness = \"anchored\"\nmax_anchor_age = \"59s\"", recipe: func(_ *testing.T, r *evidencetest.Recipe) { anchored(r) }},
	{id: PolicyPCR, name: "another value", tables: "[[pcr]]\nbank = \"sha256\"\nindex = 4\nvalues = [\"" + repeated(1, 32) + "\"]"},
	{id: PolicyPCR, name: "not quoted", tables: "[[pcr]]\nbank = \"sha384\"\nindex = 4\nvalues = [\"" + repeated(0x14, 48) + "\"]"},
}, append(floorMutations(), reservedMutations()...)...)

// enrolment is an [[enrolment]] of the AK whose name has this digest.
func enrolment(ak, issuer string) string {
	return fmt.Sprintf("[[enrolment]]\ntype = \"agentd/enrolment/1\"\nek = \"000b%s\"\nak = \"000b%s\"\nek_issuer = %q\nenrolled = \"2026-01-31T12:00:00Z\"\n",
		repeated(2, 32), ak, issuer)
}

// recipeAK is the digest in the name of a recipe's AK.
func recipeAK() string {
	digest := sha256.Sum256(evidencetest.ECCKey('k').Public())
	return hex.EncodeToString(digest[:])
}

// floorMutations has every component of every TCB one below its floor.
func floorMutations() []mutation {
	var out []mutation
	for id, which := range map[CheckID]string{PolicyTCBReported: "reported", PolicyTCBCommitted: "committed", PolicyTCBLaunch: "launch"} {
		for _, component := range []string{"bootloader", "tee", "snp", "microcode"} {
			out = append(out, mutation{id: id, name: "case 56 " + component, tables: floors(which, component)})
		}
	}
	return out
}

// reservedMutations sets every guest policy bit that has no name.
func reservedMutations() []mutation {
	var out []mutation
	for bit := 26; bit < 64; bit++ {
		out = append(out, mutation{id: PolicyGuestReserved, name: fmt.Sprintf("case 54 bit %d", bit), recipe: body(setPolicy(1 << bit))})
	}
	return out
}

// app is an [[app]] that allows the contents.
func app(name, extra string, contents ...string) string {
	var digests []string
	for _, c := range contents {
		digests = append(digests, fmt.Sprintf("%q", evidencetest.App(name, "", "", c).App.Digest.String()))
	}
	return fmt.Sprintf("[[app]]\nname = %q\ndigests = [%s]\n%s\n", name, strings.Join(digests, ", "), extra)
}

// logIn puts the log into another PCR.
func logIn(index uint32) func(*testing.T, *evidencetest.Recipe) {
	return func(_ *testing.T, r *evidencetest.Recipe) {
		r.LogPCR = index
		r.Select = pcr.Selection{{Algorithm: pcr.SHA256, PCRs: []uint32{0, 4, index}}, {Algorithm: pcr.SHA384, PCRs: []uint32{index}}}
	}
}

var logPolicyMutations = []mutation{
	{id: PolicyLog, name: "no log", recipe: func(_ *testing.T, r *evidencetest.Recipe) { r.NoLog = true }},
	{id: PolicyContinuation, name: "nothing known", root: `continuation = "required"`},
	{id: PolicyContinuation, name: "case 100 another boot, by its REPORT_ID", root: `continuation = "required"`, opts: continued(bootAt(1)), recipe: bootedAs(2, rebooted)},
	{id: PolicyContinuation, name: "another boot, by the vTPM", root: `continuation = "required"`, opts: continued(func(s *LogState) { s.ReportID = "" }), recipe: rebooted},
	{id: PolicyLogGaps, name: "gap", recipe: event(pcr.Event{Type: pcr.EventGap, Gap: &pcr.GapEvent{Reason: "overflow"}})},
	{id: PolicyLogGaps, name: "full", recipe: event(pcr.Event{Type: pcr.EventFull})},
	{id: PolicyLogUnmeasured, name: "unmeasured", recipe: event(pcr.Event{Type: pcr.EventUnmeasured, Unmeasured: &pcr.UnmeasuredEvent{App: "other", Reason: "gone"}})},
	{id: PolicyAgent, name: "version", tables: "[agent]\nversions = [\"1.0.1\"]"},
	{id: PolicyAgent, name: "digest", tables: "[agent]\ndigests = [\"" + repeated(1, 32) + "\"]"},
	{id: PolicyAgent, name: "configuration", tables: "[agent]\nconfigurations = [\"" + repeated(1, 32) + "\"]"},
	{id: PolicyLogPCR, name: "another", root: "log_pcr = 14"},
	{id: PolicyLogPCR, name: "another than that of the agent's default", recipe: logIn(14)},
	{id: PolicyQuoted, name: "a PCR left out", tables: "[[quoted]]\nbank = \"sha256\"\npcrs = [0, 4, 7]"},
	{id: PolicyQuoted, name: "quoted in another bank", tables: "[[quoted]]\nbank = \"sha384\"\npcrs = [4]"},
	{id: PolicyAgent, name: "an earlier one", tables: "[agent]\nversions = [\"1.0.0\"]", recipe: func(_ *testing.T, r *evidencetest.Recipe) {
		r.Events = append([]pcr.Event{evidencetest.Agent(pcr.EventAgent, "0.9.0", evidencetest.Key('b'))}, r.Events...)
	}},
	{id: PolicyAppPresent, name: "absent", tables: app("ledger", "", "ledger 1")},
	{id: PolicyAppDigest, name: "tampered", tables: app("billing", "", "billing 2")},
	{id: PolicyAppDigest, name: "tampered, then put back", tables: app("billing", "", "billing 1"), recipe: func(_ *testing.T, r *evidencetest.Recipe) {
		r.Events = append(r.Events, evidencetest.App("billing", "billing.service", "billing", "evil"), evidencetest.App("billing", "billing.service", "billing", "billing 1"))
	}},
	{id: PolicyAppDigest, name: "tampered before the log that is shown", tables: app("billing", "", "billing 1"), recipe: fromTwo, opts: continued(func(s *LogState) {
		s.Apps = append(s.Apps, AppClaim{Name: "billing", Versions: []AppVersion{{Unit: "billing.service", User: "billing", Digest: evidence.Digest{1}}}})
	})},
	{id: PolicyAppDeclaration, name: "another", tables: app("billing", "declarations = [\""+repeated(1, 32)+"\"]", "billing 1")},
	{id: PolicyAppUnit, name: "unit", tables: app("billing", "unit = \"payment.service\"", "billing 1")},
	{id: PolicyAppUnit, name: "user", tables: app("billing", "user = \"root\"", "billing 1")},
	{id: PolicyAppUnit, name: "a further user", tables: app("billing", "user = \"billing\"", "billing 1"), recipe: withUsers(990, pcr.AppUser{User: "www-data", UID: 991})},
	{id: PolicyAppUnit, name: "another further user", tables: app("billing", "user = \"billing\"\nusers = [\"mail\"]", "billing 1"), recipe: withUsers(990, pcr.AppUser{User: "www-data", UID: 991})},
	{id: PolicyAppUnit, name: "user is dynamic", tables: app("billing", "user = \"billing\"", "billing 1"), recipe: dynamic(61500)},
	{id: PolicyAppUnit, name: "user is not dynamic", tables: app("billing", "user = \"billing\"\ndynamic_user = true", "billing 1")},
	{id: PolicyAppUnlisted, name: "a further one", root: `unlisted_apps = "refuse"`},
	{id: PolicyCallerUnit, name: "another", tables: "[caller]\nunit = \"payment.service\""},
	{id: PolicyCallerUnit, name: "no instance of the template", tables: "[caller]\nunit = \"billing@.service\""},
	{id: PolicyCallerUnit, name: "none", tables: "[caller]\nunit = \"billing.service\"", recipe: func(_ *testing.T, r *evidencetest.Recipe) {
		c := &r.Statement.Caller
		c.Unit, c.App, c.Invocation, c.UnitStarted, c.Executable = "", "", nil, nil, nil
	}},
	{id: PolicyCallerUser, name: "another", tables: "[caller]\nuid = 0"},
	{id: PolicyCallerApp, name: "another", tables: "[caller]\nunit = \"billing.service\"\napp = \"payment\""},
	{id: PolicyCallerMethod, name: "start time", tables: "[caller]\nmethod = \"pidfd\"", recipe: func(_ *testing.T, r *evidencetest.Recipe) {
		r.Statement.Caller.Method = evidence.MethodStartTime
	}},
	{id: PolicyCallerExecutable, name: "another", tables: "[caller]\nunit = \"billing.service\"\nexecutables = [\"" + repeated(1, 32) + "\"]"},
	{id: PolicyCallerExecutable, name: "not seen", tables: "[caller]\nunit = \"billing.service\"\nexecutables = [\"" + repeated(1, 32) + "\"]",
		recipe: func(_ *testing.T, r *evidencetest.Recipe) { r.Statement.Caller.Executable = nil }},
	{id: PolicyCallerExecutable, name: "not covered", tables: "[caller]\nunit = \"billing.service\"\napp = \"billing\"\ncovered = true",
		recipe: func(_ *testing.T, r *evidencetest.Recipe) { r.Statement.Caller.Executable.Covered = false }},
}

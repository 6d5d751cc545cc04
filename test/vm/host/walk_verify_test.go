// SPDX-License-Identifier: Apache-2.0

package host

import (
	"strings"

	"github.com/cvm-agentd/agentd/test/pages"
)

// readerSteps are those of a relying party who has the package agentctl and nothing else.
var readerSteps = []step{
	{page: verifyPage, line: "make build", not: "with the package the reader leaves it out"},
	{page: verifyPage, line: "agentctl show evidence.json", not: "the sessions are one: see walkReader"},
	{page: verifyPage, line: "agentctl policy init --from evidence.json --out policy.toml $ROOT $AT", not: "the same"},
	{page: verifyPage, line: "NONCE=4e4e4e4e4e4e4e4e4e4e4e4e4e4e4e4e4e4e4e4e4e4e4e4e4e4e4e4e4e4e4e4e", not: "the same"},
	{page: verifyPage, line: `agentctl verify --policy policy.toml --nonce 00$NONCE $ROOT $AT evidence.json || echo "exit code $?"       # 2: statement.nonce`, not: "the same"},
	{page: verifyPage, line: "agentctl verify --policy policy.toml --nonce $NONCE $ROOT $AT --html report.html evidence.json",
		with: []string{"$NONCE", strings.Repeat("4e", 32), example[2], example[3]}, after: "grep -q 'under a TEST ROOT</h1>' /root/session/report.html"},
	{page: verifyPage, line: "agentctl policy check --policy other.toml $ROOT $AT evidence.json", with: example, code: 5, says: []string{"policy.app-present"}},
	{page: verifyPage, line: "agentctl verify --help", says: []string{"--policy FILE"}},
	{page: verifyPage, line: "agentctl collateral fetch --dir collateral evidence.json", code: 3, says: []string{"kdsintf.amd.com"}},
	{page: verifyPage, line: "agentctl verify --collateral collateral --policy policy.toml --nonce $NONCE evidence.json", with: example, before: "mkdir -p /root/session/collateral"},
	{page: verifyPage, line: "agentctl verify --known-log machine.json --save-log machine.json --policy policy.toml --nonce $NONCE evidence.json",
		with: append([]string{"--known-log machine.json ", ""}, example...), after: "test -s /root/session/machine.json"},
	{page: verifyPage, line: "agentctl verify --known-log machine.json --save-log machine.json --policy policy.toml --nonce $NONCE evidence.json", with: example},
	{page: verifyPage, line: "agentctl policy ek-roots maker-root.pem", says: []string{"ek_roots = "},
		before: "cd /root/session && openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=maker -days 3650 -keyout /dev/null -out maker-root.pem 2>/dev/null"},
	{page: verifyPage, line: "agentctl verify --policy bare.toml --nonce @nonce.bin --snp-report report.bin --certificate vcek.der", says: []string{"accepted"},
		before: `cd /root/session && agentctl export --out parts evidence.json && cp parts/report.bin . &&
{ printf 'version = 1\nbinding = "none"\nlog = "optional"\nfreshness = "any"\n'; sed -n '/^\[\[launch\]\]/,/^$/p' policy.toml; sed -n '/^\[guest_policy/,/^$/p' policy.toml; } >bare.toml`,
		with: []string{"--nonce @nonce.bin", "--report-data $(cat parts/report-data)", "vcek.der", "parts/certificates.pem " + example[3]}},
}

// example is what the page sets in the shell for the example, and leaves out for real evidence.
var example = []string{
	"$NONCE evidence.json", strings.Repeat("4e", 32) + " --trust-test-root-that-vouches-for-no-hardware=test-root.pem --at=2026-06-01 evidence.json",
	"$ROOT $AT", "--trust-test-root-that-vouches-for-no-hardware=test-root.pem --at=2026-06-01",
}

// walkReader installs agentctl alone, and goes from an evidence file to a verdict.
func (s *session) walkReader() {
	s.run(mounted + " && DEBIAN_FRONTEND=noninteractive apt-get install -y /packages/old/agentctl_*.deb && ! getent passwd agentd && mkdir -p /root/session")
	session, err := pages.Session(root + verifyPage)
	s.must(err)
	lines, found := strings.CutPrefix(session, "make build\nexport PATH=$PWD/bin:$PATH\n")
	if !found {
		s.t.Fatalf("the page begins with other commands than it says: %s", session)
	}
	s.run("cat >/root/session/page <<'END OF THE PAGE'\n" + lines + "cp -r . /root/session/\nEND OF THE PAGE\n")
	out := s.run("cd /usr/share/doc/agentctl && sh -eu /root/session/page 2>&1")
	s.contains("the page", out, []string{"NOT VERIFIED", "Not checked:", "pass, by the guest's word: accepted."})
	s.must(pages.Promised(lines, out))
	s.refusal()
	s.walk(readerSteps)
}

// refusal compares what the page prints of a policy with another digest.
func (s *session) refusal() {
	s.t.Helper()
	p, err := pages.Read(root + verifyPage)
	s.must(err)
	prints, err := p.Under("4. Read the result", "")
	s.must(err)
	out := s.typed(step{page: verifyPage, line: "agentctl policy check --policy other.toml $ROOT $AT evidence.json", code: 5,
		before: `cd /root/session && sed '/^\[\[app\]\]/,/^$/{/^digests = /s/"[0-9a-f]*"/"` + strings.Repeat("ab", 32) + `"/}' policy.toml >digest.toml`,
		types:  "agentctl verify --policy digest.toml --nonce " + strings.Join(example[1:2], "")})
	_, out, _ = strings.Cut(out, "no hardware\n")
	if pages.SameEverywhere(out) != pages.SameEverywhere(prints[0].Text) {
		s.t.Errorf("of another digest %s says\n%s\nthe command prints\n%s", verifyPage, prints[0].Text, out)
	}
}

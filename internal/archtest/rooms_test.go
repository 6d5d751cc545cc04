// SPDX-License-Identifier: Apache-2.0

package archtest

import (
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// rooms is the map of the tree: the package of a line imports only packages of earlier
// lines. docs/architecture.md explains the map.
var rooms = []string{
	// Ground: what every other room may use. Pure.
	"internal/text",
	"internal/strictjson",
	"internal/stricttoml",
	"internal/unitname",
	"internal/tpmwire",
	"internal/dsse",

	// Public face, first half: what a verifier needs. Pure.
	"evidence",
	"pcr",
	"internal/tcglog",
	"internal/ima",
	"keys",
	"internal/cmw",
	"verify/snp",
	"verify/internal/check",
	"verify/internal/cache",
	"verify/internal/statement",
	"verify/internal/quote",
	"verify/internal/report",
	"verify/internal/sevsnp",
	"verify/internal/paravisor",
	"verify/internal/replay",
	"verify/internal/rule",
	"verify",
	"verify/ear",
	"internal/verdict",
	"internal/page",

	// Public face: what a build of images needs. Pure, and a room of its own.
	"launch",

	// Public face, second half: what an application needs.
	"api",
	"client",
	"internal/secret",
	"sealing",
	"attestedtls",
	"internal/version",
	"deviceattest",

	// Devices and files.
	"internal/luks",
	"internal/crypttab",
	"internal/cryptsetup",
	"internal/junit",
	"internal/flags",
	"internal/journal",
	"internal/durable",
	"internal/boottime",
	"internal/metrics",
	"internal/turn",
	"internal/tpm",
	"internal/tpm/registers",
	"internal/tpm/tpmkeys",
	"internal/tpm/trial",
	"internal/platform",
	"internal/platform/snp",
	"internal/platform/configfs",
	"internal/platform/svsm",
	"internal/platform/azure",
	"internal/platform/soft",
	"internal/platform/soft/tsm",
	"internal/platform/soft/paravisor",
	"internal/platform/soft/svsm",
	"internal/platform/soft/google",
	"internal/platform/choose",
	"internal/oci",
	"internal/engines",
	"internal/caller",
	"internal/declared",
	"internal/apps/declaration",
	"internal/apps/manifest",
	"internal/rootfs",
	"internal/fanotify",
	"internal/gatewire",
	"internal/gate",
	"internal/unitfile",
	"internal/closure",
	"internal/config",
	"internal/socket",
	"internal/packages",
	"internal/imapolicy",
	"internal/image",
	"internal/export",
	"internal/sshagent",
	"internal/tunnel",
	"internal/swtpm",
	"internal/corpus",
	"internal/conformance",
	"internal/message",
	"internal/delivery",
	"internal/carrier",
	"internal/transfer",
	"internal/store",
	"internal/store/tpmroot",

	// Public face: what a service needs that verifies for others.
	"collateral",
	"relying",

	// The service, and the commands.
	"agent/internal/ledger",
	"agent/internal/vtpm",
	"agent/internal/peer",
	"agent/internal/identity",
	"agent/internal/problem",
	"agent/internal/startup",
	"agent/internal/reports",
	"agent/internal/enrol",
	"agent/internal/apps",
	"agent/internal/containers",
	"agent/internal/attest",
	"agent/internal/server",
	"agent/internal/events",
	"agent/internal/credentials",
	"agent/internal/gate",
	"agent/internal/disks",
	"agent/internal/vault",
	"agent/internal/upgrade",
	"agent/internal/receiver",
	"agent/internal/status",
	"agent/internal/figures",
	"agent/internal/systemd",
	"agent",
	"cmd/agentd",
	"cmd/agentd-gate",
	"cmd/agentd-sim",
	"cmd/agentctl",
	"cmd/agentd-container",
	"cmd/agentd-conformance",
}

// public are the packages that other modules can import. The root package has no code.
var public = []string{"", "evidence", "pcr", "keys", "verify", "verify/ear", "verify/snp", "collateral", "relying", "launch", "sealing", "api", "client", "attestedtls", "deviceattest", "agent"}

// free are folders of tests, measurements, tools and the model: they import what they like, and only
// tests import them.
var free = []string{"test", "bench", "tools", "docs"}

// top returns the first part of a folder's path.
func top(folder string) string {
	t, _, _ := strings.Cut(folder, "/")
	return t
}

// testOnly reports whether folder is a package for tests alone, which may import "testing".
func testOnly(folder string) bool {
	return slices.Contains(free, top(folder)) ||
		slices.Contains([]string{"archtest", "durabletest", "evidencetest", "launchtest", "metricstest", "pagetest", "vectors"}, path.Base(folder))
}

// TestImportsGoOneWay checks that every package has a room, and imports only from rooms
// before its own.
func TestImportsGoOneWay(t *testing.T) {
	for _, p := range packages(t) {
		from := p.folder()
		if from == "" || testOnly(from) {
			continue
		}
		rank := slices.Index(rooms, from)
		if rank < 0 {
			t.Errorf("%s has no room: add it to the list in internal/archtest/rooms_test.go", from)
			continue
		}
		for _, imported := range p.Imports {
			to := folder(imported)
			switch at := slices.Index(rooms, to); {
			case to == "":
			case testOnly(to):
				t.Errorf("%s imports %s, which is for tests", from, to)
			case at >= rank:
				t.Errorf("%s imports %s, which comes later in the list of rooms", from, to)
			}
		}
	}
}

// TestPublicPackages checks that other modules can import exactly the public packages.
func TestPublicPackages(t *testing.T) {
	for _, p := range packages(t) {
		f := p.folder()
		parts := strings.Split(f, "/")
		if p.Name == "main" || len(p.GoFiles) == 0 || slices.Contains(free, parts[0]) || slices.Contains(parts, "internal") {
			continue
		}
		if !slices.Contains(public, f) {
			t.Errorf("%q can be imported by other modules: put it below an internal folder", f)
		}
	}
}

// impure are packages of the standard library and of Go's authors that reach the outside.
var impure = []string{"io", "io/fs", "io/ioutil", "os", "os/exec", "os/signal", "syscall", "net", "net/http", "log", "log/slog", "path/filepath", "golang.org/x/sys"}

// TestVerifyIsPure checks that what a relying party links does no input and no output of
// its own, and stays small. A verdict depends on nothing but the arguments. What counts is the
// code of others: a room more of our own is not a party more that a relying party must trust.
func TestVerifyIsPure(t *testing.T) {
	const most = 166 // packages of others, those of the standard library included
	deps := list(t, "0", "-deps", "./verify")
	others := 0
	for _, p := range deps {
		if p.folder() == "" {
			others++
		}
	}
	if others > most {
		t.Errorf("verify links %d packages of others, at most %d", others, most)
	}
	for _, p := range deps {
		for _, not := range []string{"net/http", "crypto/tls", "google.golang.org/protobuf", "github.com/google/go-sev-guest", "github.com/google/go-tpm-tools"} {
			if p.ImportPath == not || strings.HasPrefix(p.ImportPath, not+"/") {
				t.Errorf("verify links %s", p.ImportPath)
			}
		}
		if p.folder() == "" {
			continue
		}
		for _, imported := range p.Imports {
			if slices.Contains(impure, imported) || strings.HasPrefix(imported, "golang.org/x/sys/") {
				t.Errorf("%s imports %s: the verifier does no input and no output", p.folder(), imported)
			}
		}
	}
}

// TestLaunchIsPure checks that the package that computes launch measurements uses nothing of
// this module, and reads only what its caller hands to it: a build can call it anywhere.
func TestLaunchIsPure(t *testing.T) {
	for _, p := range list(t, "0", "./launch") {
		for _, imported := range p.Imports {
			if slices.Contains(impure, imported) && imported != "io" || strings.Contains(imported, ".") {
				t.Errorf("launch imports %s", imported)
			}
		}
	}
}

// TestClientLinksNoServer checks that a program that asks for evidence links neither the
// agent nor the verifier, and of the internal packages only ground rooms.
func TestClientLinksNoServer(t *testing.T) {
	last := slices.Index(rooms, "evidence")
	for _, p := range list(t, "0", "-deps", "./client", "./api") {
		f := p.folder()
		if top(f) == "agent" || top(f) == "verify" || top(f) == "internal" && slices.Index(rooms, f) > last || p.ImportPath == "net/http/httptest" {
			t.Errorf("client links %s", p.ImportPath)
		}
	}
}

// TestGateStartsNoProgram checks that neither the gate nor the agent can start a program: it would
// wait for itself.
func TestGateStartsNoProgram(t *testing.T) {
	for _, p := range list(t, "0", "-deps", "./cmd/agentd-gate", "./cmd/agentd") {
		if p.ImportPath == "os/exec" {
			t.Error("agentd or agentd-gate links os/exec")
		}
	}
}

// TestVendorLibrariesHaveOnePlace checks which packages use go-sev-guest and go-tpm-tools:
// the first is for the simulator and the export, the second for the export.
func TestVendorLibrariesHaveOnePlace(t *testing.T) {
	places := map[string][]string{
		"github.com/google/go-sev-guest": {"internal/platform/soft", "internal/export"},
		"github.com/google/go-tpm-tools": {"internal/export"},
	}
	for _, p := range packages(t) {
		f := p.folder()
		for _, imported := range p.Imports {
			for library, at := range places {
				if strings.HasPrefix(imported, library+"/") && !slices.Contains(at, f) && !slices.Contains(free, top(f)) {
					t.Errorf("%s imports %s, which only %s may", f, imported, strings.Join(at, ", "))
				}
			}
		}
	}
}

// TestMapIsComplete checks that the list of rooms and docs/architecture.md name the same
// packages, in the same order, and that each of them exists.
func TestMapIsComplete(t *testing.T) {
	var exists []string
	for _, p := range packages(t) {
		exists = append(exists, p.folder())
	}
	for _, r := range rooms {
		if !slices.Contains(exists, r) {
			t.Errorf("there is no package %s: remove the line", r)
		}
	}
	text, err := os.ReadFile(filepath.Join(root(t), "docs", "architecture.md"))
	if err != nil {
		t.Fatal(err)
	}
	var named []string
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z0-9/.-]+)` \\|").FindAllStringSubmatch(string(text), -1) {
		if slices.Contains(rooms, m[1]) || strings.Contains(m[1], "/") {
			named = append(named, m[1])
		}
	}
	if !slices.Equal(named, rooms) {
		t.Errorf("docs/architecture.md names the rooms\n%s\nand the list has\n%s", strings.Join(named, "\n"), strings.Join(rooms, "\n"))
	}
}

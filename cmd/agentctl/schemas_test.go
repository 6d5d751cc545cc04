// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/test/jsonschema"
	"github.com/cvm-agentd/agentd/verify"
)

// schemaFolder has a schema for each command, named after its words.
const schemaFolder = "../../api/schemas/agentctl"

// answers are what each command prints with --json: the type of an object, which has a schema.
// A flag after a command is one with which it prints another.
var answers = map[string]reflect.Type{
	"app add":                reflect.TypeFor[addition](),
	"app changes":            reflect.TypeFor[changedApps](),
	"app diff":               reflect.TypeFor[difference](),
	"app list":               reflect.TypeFor[api.Apps](),
	"app reload":             reflect.TypeFor[api.Reloaded](),
	"app show":               reflect.TypeFor[api.App](),
	"collateral fetch":       reflect.TypeFor[fetched](),
	"container disable":      reflect.TypeFor[engineChange](),
	"container enable":       reflect.TypeFor[engineChange](),
	"container list":         reflect.TypeFor[containerList](),
	"disk check":             reflect.TypeFor[diskChecked](),
	"disk enroll":            reflect.TypeFor[api.Disk](),
	"disk list":              reflect.TypeFor[api.Disks](),
	"disk remove":            reflect.TypeFor[api.DiskName](),
	"disk rotate":            reflect.TypeFor[api.Disk](),
	"doctor":                 reflect.TypeFor[diagnosis](),
	"enroll add":             reflect.TypeFor[enrolmentList](),
	"enroll approve":         reflect.TypeFor[enrolmentList](),
	"enroll list":            reflect.TypeFor[enrolmentList](),
	"event emit":             reflect.TypeFor[api.RecordedEvent](),
	"event list":             reflect.TypeFor[api.Events](),
	"export":                 reflect.TypeFor[exported](),
	"key accept-rollback":    reflect.TypeFor[api.Store](),
	"key authorize":          reflect.TypeFor[api.Contract](),
	"key certify":            reflect.TypeFor[api.Certified](),
	"key lift-digest":        reflect.TypeFor[api.Contract](),
	"key list":               reflect.TypeFor[api.Store](),
	"key pin-release-key":    reflect.TypeFor[api.UpgradeStatus](),
	"key prepare-upgrade":    reflect.TypeFor[api.PreparedUpgrade](),
	"key public":             reflect.TypeFor[api.PublicKey](),
	"key recipients":         reflect.TypeFor[api.Rewritten](),
	"key recover":            reflect.TypeFor[api.Rewritten](),
	"key replace-ak":         reflect.TypeFor[api.Replaced](),
	"key require-digest":     reflect.TypeFor[api.Contract](),
	"key retire":             reflect.TypeFor[api.RootVersion](),
	"key rewrap":             reflect.TypeFor[api.Rewritten](),
	"key rotate":             reflect.TypeFor[api.RootVersion](),
	"key rotate-store-key":   reflect.TypeFor[api.Rewritten](),
	"key show":               reflect.TypeFor[api.Contract](),
	"key store-key":          reflect.TypeFor[storeKey](),
	"key upgrade-abort":      reflect.TypeFor[api.AbortedUpgrade](),
	"key upgrade-accept":     reflect.TypeFor[api.AcceptedUpgrade](),
	"key upgrade-finish":     reflect.TypeFor[api.UpgradeStatus](),
	"key upgrade-status":     reflect.TypeFor[api.UpgradeStatus](),
	"key withdraw":           reflect.TypeFor[api.Contract](),
	"log":                    reflect.TypeFor[logLines](),
	"measure":                reflect.TypeFor[api.App](),
	"measure --wait-all":     reflect.TypeFor[api.Apps](),
	"metrics":                reflect.TypeFor[map[string]float64](),
	"policy check":           reflect.TypeFor[dryRun](), // for each file
	"policy diff":            reflect.TypeFor[policyDifference](),
	"policy explain":         reflect.TypeFor[explainedPolicy](),
	"policy ima-reference":   reflect.TypeFor[imaReferenced](),
	"policy image-reference": reflect.TypeFor[imageReferenced](),
	"policy launch":          reflect.TypeFor[launchRules](),
	"policy reference":       reflect.TypeFor[references](),
	"seal":                   reflect.TypeFor[api.Sealed](),
	"seal --what-if":         reflect.TypeFor[api.Contract](),
	"secret list":            reflect.TypeFor[api.Secrets](),
	"secret put":             reflect.TypeFor[api.ProvisionedSecret](),
	"secret receipt":         reflect.TypeFor[delivered](),
	"secret remove":          reflect.TypeFor[api.StoredName](),
	"secret send --to":       reflect.TypeFor[delivered](),
	"secret rotate":          reflect.TypeFor[api.ProvisionedSecret](),
	"self":                   reflect.TypeFor[api.Self](),
	"show":                   reflect.TypeFor[shown](),
	"sign":                   reflect.TypeFor[api.Signed](),
	"status":                 reflect.TypeFor[api.Status](),
	"verify":                 reflect.TypeFor[verify.Appraisal](),
	"who":                    reflect.TypeFor[api.Process](),
	"version":                reflect.TypeFor[versions](),

	"policy id-block check":  reflect.TypeFor[idBlock](),
	"policy id-block create": reflect.TypeFor[idBlock](),

	"policy verify-signature": reflect.TypeFor[signedPolicy](),
}

// otherwise are the commands that hand out what was asked for and not an answer, with what that is.
var otherwise = map[string]string{
	"disk prepare":        "a copy of a header, for systemd-cryptsetup",
	"app disable":         "says in words which file it removed",
	"app enable":          "says in words which file it wrote",
	"certificate":         "certificates in PEM",
	"attest":              "evidence, see api/schemas/evidence.json",
	"completion":          "a script for a shell",
	"enroll activate":     "the file that enroll finish reads",
	"enroll challenge":    "the file that enroll activate reads",
	"enroll finish":       "the record that policy enrolment reads",
	"enroll request":      "the file that enroll challenge reads",
	"help":                "the text of help",
	"key derive":          "the secret, as it is",
	"key sign-release":    "a release statement and its signature",
	"key upgrade-answer":  "the message that key upgrade-accept reads",
	"key upgrade-request": "the message that key upgrade-answer reads",
	"policy add-digest":   "says in words what it changed in the policy",
	"policy ek-roots":     "a part of a policy",
	"policy enrolment":    "a part of a policy",
	"policy init":         "a policy",
	"policy sign":         "an envelope with the policy, see docs/policy.md",
	"secret challenge":    "the challenge that secret ticket wants",
	"secret receive":      "the message that secret receipt reads",
	"secret send":         "the message that secret receive reads",
	"secret serve":        "a service for relying parties",
	"secret ticket":       "the message that secret send reads",
	"ssh-agent":           "a service for ssh",
	"token jwks":          "a JWK Set, see RFC 7517",
	"tunnel connect":      "a service for other programs",
	"tunnel serve":        "a service for other programs",
	"unseal":              "the secret, as it is",
}

// leaves calls f for each command that does something, with its words.
func leaves(c *cobra.Command, words string, f func(string)) {
	for _, below := range c.Commands() {
		name := strings.TrimSpace(words + " " + below.Name())
		if below.HasSubCommands() {
			leaves(below, name, f)
		} else {
			f(name)
		}
	}
}

// TestEachCommandHasASchema: with --json a command prints an object that api/schemas/agentctl
// describes, or what it is for is another document. A command that is in neither table is
// refused here.
func TestEachCommandHasASchema(t *testing.T) {
	seen := map[string]bool{}
	leaves(newRoot(&terminal{}, &sockets{}), "", func(name string) {
		seen[name] = true
		if _, other := otherwise[name]; other == (answers[name] != nil) {
			t.Errorf("agentctl %s: say in one of the two tables what it prints with --json", name)
		}
	})
	for _, name := range slices.Concat(slices.Collect(maps.Keys(answers)), slices.Collect(maps.Keys(otherwise))) {
		if words, _, _ := strings.Cut(name, " --"); !seen[words] {
			t.Errorf("agentctl %s is not a command", name)
		}
	}
}

// TestSchemas compares api/schemas/agentctl with the types that the commands print.
func TestSchemas(t *testing.T) {
	all := map[string]reflect.Type{"error": reflect.TypeFor[complaint]()}
	for words, typ := range answers {
		all[strings.NewReplacer(" --", "-", " ", "-").Replace(words)] = typ
	}
	claims, _ := reflect.TypeFor[verify.Appraisal]().FieldByName("Accepted")
	for name, typ := range all {
		d := jsonschema.New(t, "../..")
		d.Hex = true
		d.As = map[reflect.Type]reflect.Type{claims.Type: reflect.TypeFor[verify.Claims](), reflect.TypeFor[verify.CheckID](): reflect.TypeFor[string]()}
		file, want := filepath.Join(schemaFolder, name+".json"), d.Document("agentctl/"+name, typ)
		if *update {
			if err := os.WriteFile(file, want, 0o644); err != nil {
				t.Fatal(err)
			}
		} else if got, err := os.ReadFile(file); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s does not describe %v: run go test ./cmd/agentctl -run TestSchemas -update (%v)", file, typ, err)
		}
	}
	files, err := filepath.Glob(schemaFolder + "/*.json")
	if err != nil || len(files) != len(all) {
		t.Errorf("%d schemas, want %d: %v", len(files), len(all), err)
	}
}

// TestExampleFitsSchemas: what the commands say of the example in the documents is what their
// schemas describe. It has every part that evidence can have of a measured application.
func TestExampleFitsSchemas(t *testing.T) {
	const example = "../../docs/example/"
	policy := filepath.Join(folder(t, map[string][]byte{"policy.toml": []byte(openPolicy)}), "policy.toml")
	for schema, args := range map[string][]string{
		"show":         {"show"},
		"verify":       {"verify", "--accept-replay"},
		"policy-check": {"policy", "check"},
	} {
		if schema != "show" {
			args = append(args, "--policy", policy, "--at", "2026-06-01", "--trust-test-root-that-vouches-for-no-hardware", example+"test-root.pem")
		}
		code, out, stderr := agentctl(t, append(args, "--json", example+"evidence.json")...)
		if code != exitOK {
			t.Errorf("%v: exit code %d\n%s%s", args, code, out, stderr)
		}
		jsonschema.FitsFile(t, filepath.Join(schemaFolder, schema+".json"), schema, []byte(out))
	}
}

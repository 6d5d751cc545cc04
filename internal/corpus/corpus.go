// SPDX-License-Identifier: Apache-2.0

// Package corpus has evidence for trying out verifiers, and reads it: the files in cases, which
// are part of the program that imports this package. Most must be refused: one failure in each
// file, and the check that has to find it named in the file. Some must be accepted, so that a
// verifier that refuses everything does not pass. "go generate ./verify" writes them.
//
// A file is a head of "key: value" lines, a policy, and the evidence, which is
// everything after its mark to the end of the file, byte for byte:
//
//	check: policy.debug
//	class: 5
//	fails: policy.debug
//	about: case 54
//	time: 2026-06-01T12:00:00Z
//	nonce: 4e4e...
//	root: test
//	certificates: shared
//	--- policy
//	version = 1
//	...
//	--- evidence
//	{"type":"agentd/evidence/1",...
//
// "check" is what the file is about, "fails" are all checks that fail; both are the
// same but where parts of two machines were put together. A file that must be accepted has
// neither, and its class is 0. "features" are parts of the format that a verifier needs for the
// case, of [Features], and may lack. "root" is "test" for the
// root in root.pem, and "amd". With "certificates: shared" the verifier is handed
// certificates.pem, which is left out of the evidence for its size. Further keys are
// audience, public-key, user-data, revocation (base64 of DER), log-state (base64 of JSON),
// ima-list and ima-reference (base64): what the verifier was given besides. Bytes are
// hexadecimal otherwise.
//
// With "material: snp-report" or "material: azure-paravisor-set" the file holds what
// other systems record, instead of evidence: after the last mark comes base64 of the
// bare report, with what follows it, or of the paravisor's HCL report. Further keys are
// then certificate (may be repeated), quote, signature, pcrs and firmware-log (base64),
// and report-data.
package corpus

import (
	"bytes"
	"embed"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Materials that are not evidence, as "agentctl verify --json" names them.
const (
	Report    = "snp-report"
	Paravisor = "azure-paravisor-set"
)

// Features are the parts of the format that a verifier may lack, each with what it is.
var Features = []Feature{
	{"policy", "the policy language of docs/policy.md: rules beyond what evidence must be to be genuine"},
	{"snp-report", "a bare report instead of evidence"},
	{"azure-paravisor-set", "a paravisor's HCL report and quote instead of evidence"},
	{"paravisor", "evidence whose report is around runtime data of an Azure paravisor"},
	{"svsm", "evidence whose report is over the manifest of an SVSM"},
	{"anchor", "anchored evidence: a quote on an earlier report"},
	{"continuation", "a log, or a part of one, that continues what the verifier knows from before"},
	{"firmware-log", "the event log of the firmware"},
	{"ima", "lists of Linux's integrity measurement architecture"},
	{"revocation", "revocation lists of AMD's authority"},
	{"enrolment", "attestation keys that are known by enrolment, and certificates of endorsement keys"},
	{"gcp", "certificates of Google Cloud for attestation keys"},
	{"container", "containers in the log, and callers in them"},
	{"gate", "the gate, and programs that it let start"},
	{"event", "events that applications had recorded"},
}

// Feature is a part of the format that a verifier may lack.
type Feature struct{ Name, About string }

// IsFeature reports whether a feature has this name.
func IsFeature(name string) bool {
	return slices.ContainsFunc(Features, func(f Feature) bool { return f.Name == name })
}

// Case is one file.
type Case struct {
	Name      string // of the file
	Check     string // id of the check that the file is about; "" if it must be accepted
	Class     int    // of the verdict: the exit code
	Fails     []string
	Features  []string // that a verifier needs for the case
	About     string   // for people, with the case of the list of cases
	Time      time.Time
	Nonce     []byte
	Audience  string
	PublicKey []byte // nil if none is expected
	UserData  []byte
	Root      string // "test" or "amd"
	Shared    bool   // the verifier has certificates.pem
	Revoked   [][]byte
	LogState  []byte

	IMAList      []byte // nil if the verifier has none
	IMAReference []byte
	Policy       []byte
	Evidence     []byte // or report, or HCL report

	Material     string // "" for evidence
	ReportData   []byte
	Quote        []byte
	Signature    []byte
	PCRs         []byte
	FirmwareLog  []byte
	Certificates [][]byte
}

// Marks between the parts of a file.
const (
	policyMark   = "--- policy\n"
	evidenceMark = "--- evidence\n"
)

// Encode is the file.
func (c *Case) Encode() []byte {
	var b bytes.Buffer
	put := func(key, value string) {
		if value != "" {
			fmt.Fprintf(&b, "%s: %s\n", key, value)
		}
	}
	put("check", c.Check)
	put("class", strconv.Itoa(c.Class))
	put("fails", strings.Join(c.Fails, " "))
	put("features", strings.Join(c.Features, " "))
	put("about", c.About)
	put("time", c.Time.UTC().Format(time.RFC3339))
	put("nonce", hex.EncodeToString(c.Nonce))
	put("audience", c.Audience)
	if c.PublicKey != nil {
		put("public-key", "0x"+hex.EncodeToString(c.PublicKey))
	}
	put("user-data", hex.EncodeToString(c.UserData))
	put("root", c.Root)
	if c.Shared {
		put("certificates", "shared")
	}
	for _, r := range c.Revoked {
		put("revocation", base64.StdEncoding.EncodeToString(r))
	}
	put("log-state", base64.StdEncoding.EncodeToString(c.LogState))
	put("material", c.Material)
	put("report-data", hex.EncodeToString(c.ReportData))
	for _, d := range c.Certificates {
		put("certificate", base64.StdEncoding.EncodeToString(d))
	}
	for _, x := range c.parts() {
		put(x.key, base64.StdEncoding.EncodeToString(*x.to))
	}
	b.WriteString(policyMark)
	b.Write(c.Policy)
	b.WriteString(evidenceMark)
	if c.Material != "" {
		return append(base64.StdEncoding.AppendEncode(b.Bytes(), c.Evidence), '\n')
	}
	b.Write(c.Evidence)
	return b.Bytes()
}

// part is a member that the head contains as base64.
type part struct {
	key string
	to  *[]byte
}

func (c *Case) parts() []part {
	return []part{{"quote", &c.Quote}, {"signature", &c.Signature}, {"pcrs", &c.PCRs}, {"firmware-log", &c.FirmwareLog}, {"ima-list", &c.IMAList}, {"ima-reference", &c.IMAReference}}
}

// Parse reads a file.
func Parse(name string, b []byte) (*Case, error) {
	head, rest, ok := bytes.Cut(b, []byte(policyMark))
	policy, evidence, also := bytes.Cut(rest, []byte(evidenceMark))
	if !ok || !also {
		return nil, fmt.Errorf("%s: no policy, or no evidence", name)
	}
	c := &Case{Name: name, Policy: policy, Evidence: evidence}
	for line := range strings.Lines(string(head)) {
		key, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
		if err := c.set(key, value); err != nil {
			return nil, fmt.Errorf("%s: %s: %w", name, key, err)
		}
	}
	if c.Material != "" {
		var err error
		if c.Evidence, err = base64.StdEncoding.DecodeString(strings.TrimSuffix(string(evidence), "\n")); err != nil {
			return nil, fmt.Errorf("%s: %s: %w", name, c.Material, err)
		}
	}
	if refused := slices.Contains(c.Fails, c.Check) && c.Class != 0; !refused && !c.Accepted() || c.Time.IsZero() {
		return nil, fmt.Errorf("%s: check, class, fails or time is missing", name)
	}
	for _, f := range c.Features {
		if !IsFeature(f) {
			return nil, fmt.Errorf("%s: %q is not a feature", name, f)
		}
	}
	return c, nil
}

// Accepted reports whether a verifier must accept the case.
func (c *Case) Accepted() bool { return c.Check == "" && c.Class == 0 && len(c.Fails) == 0 }

func (c *Case) set(key, value string) (err error) {
	switch key {
	case "check":
		c.Check = value
	case "class":
		c.Class, err = strconv.Atoi(value)
	case "fails":
		c.Fails = strings.Fields(value)
	case "features":
		c.Features = strings.Fields(value)
	case "about":
		c.About = value
	case "time":
		c.Time, err = time.Parse(time.RFC3339, value)
	case "nonce":
		c.Nonce, err = hex.DecodeString(value)
	case "audience":
		c.Audience = value
	case "public-key":
		c.PublicKey, err = hex.DecodeString(strings.TrimPrefix(value, "0x"))
	case "user-data":
		c.UserData, err = hex.DecodeString(value)
	case "root":
		c.Root = value
	case "certificates":
		c.Shared = true
	case "revocation":
		var der []byte
		der, err = base64.StdEncoding.DecodeString(value)
		c.Revoked = append(c.Revoked, der)
	case "log-state":
		c.LogState, err = base64.StdEncoding.DecodeString(value)
	case "material":
		if value != Report && value != Paravisor {
			return fmt.Errorf("%q is not known", value)
		}
		c.Material = value
	case "report-data":
		c.ReportData, err = hex.DecodeString(value)
	case "certificate":
		var der []byte
		der, err = base64.StdEncoding.DecodeString(value)
		c.Certificates = append(c.Certificates, der)
	default:
		for _, x := range c.parts() {
			if x.key == key {
				*x.to, err = base64.StdEncoding.DecodeString(value)
				return err
			}
		}
		err = fmt.Errorf("unknown key")
	}
	return err
}

// Corpus is a set of cases.
type Corpus struct {
	Dir          string  // that was read; "" for the cases in this program
	Cases        []*Case // that must be refused, by name
	Accepted     []*Case // that must be accepted, by name
	Root         []byte  // PEM
	Certificates []byte  // PEM
}

//go:embed cases
var files embed.FS

// Files returns the cases of this program, as files.
func Files() fs.FS {
	sub, err := fs.Sub(files, "cases")
	if err != nil {
		panic(err) // the name is valid
	}
	return sub
}

// Read reads the folder. One with few files is an error: a test over it would pass
// without having tested anything.
func Read(dir string) (*Corpus, error) {
	c, err := ReadFS(os.DirFS(dir))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", dir, err)
	}
	c.Dir = dir
	return c, nil
}

// ReadFS reads the cases of a file system.
func ReadFS(in fs.FS) (*Corpus, error) {
	c := new(Corpus)
	var err error
	if c.Root, err = fs.ReadFile(in, "root.pem"); err != nil {
		return nil, err
	}
	if c.Certificates, err = fs.ReadFile(in, "certificates.pem"); err != nil {
		return nil, err
	}
	names, err := fs.Glob(in, "*.case")
	if err != nil {
		return nil, err
	}
	if len(names) < 120 {
		return nil, fmt.Errorf("%d cases, want at least 120", len(names))
	}
	for _, name := range names {
		b, err := fs.ReadFile(in, name)
		if err != nil {
			return nil, err
		}
		one, err := Parse(path.Base(name), b)
		if err != nil {
			return nil, err
		}
		if one.Accepted() {
			c.Accepted = append(c.Accepted, one)
		} else {
			c.Cases = append(c.Cases, one)
		}
	}
	return c, nil
}

// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/internal/evidencetest"
	"github.com/cvm-agentd/agentd/internal/junit"
	"github.com/cvm-agentd/agentd/verify"
)

// readJUnit reads a document as a server does, and returns its suites.
func readJUnit(t *testing.T, text string) []junit.Suite {
	t.Helper()
	var doc junit.Suites
	if err := xml.Unmarshal([]byte(text), &doc); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	d, elements := xml.NewDecoder(strings.NewReader(text)), map[string]int{}
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if start, ok := token.(xml.StartElement); ok {
			elements[start.Name.Local]++
		}
	}
	cases, failures, skipped := 0, 0, 0
	for _, s := range doc.Suites {
		cases, failures, skipped = cases+s.Tests, failures+s.Failures, skipped+s.Skipped
	}
	if elements["testcase"] != cases || elements["failure"] != failures || elements["skipped"] != skipped || elements["testsuites"] != 1 || elements["testsuite"] != len(doc.Suites) {
		t.Errorf("the suites count %d cases, %d failures, %d skipped, and there are %v", cases, failures, skipped, elements)
	}
	return doc.Suites
}

// TestJUnitOfAnyAppraisal: whatever the verdicts and texts are, the document is well-formed,
// has a case for each check with its verdict, and steers nothing.
func TestJUnitOfAnyAppraisal(t *testing.T) {
	model, random := modelAppraisal(t), rand.New(rand.NewPCG(7, 8))
	for range 50 {
		a := anyAppraisal(random, model, strangers)
		var out bytes.Buffer
		if err := (&terminal{out: &out}).writeJUnit("x", []junit.Suite{junitOf(hostile, a)}); err != nil {
			t.Fatal(err)
		}
		if steers(out.String()) {
			t.Fatal("it steers the terminal")
		}
		s := readJUnit(t, out.String())[0]
		for i, c := range a.Checks {
			got, want := "pass", string(c.Verdict)
			switch x := s.Cases[i]; {
			case x.Name != string(c.ID):
				t.Fatalf("case %d is %q, want %s", i, x.Name, c.ID)
			case x.Failure != nil && x.Skipped == nil:
				got = "fail"
				if x.Failure.Type != c.Class.String() || !strings.Contains(x.Failure.Message, strings.ToValidUTF8(strings.NewReplacer("\ufffe", "�", "\uffff", "�").Replace(cleanLine(c.Sentence)), "�")) {
					t.Errorf("%s fails with %+v, want %q", c.ID, x.Failure, c.Sentence)
				}
			case x.Skipped != nil:
				got = "not-asserted"
			}
			if c.Verdict == verify.NotAsserted && c.Required {
				want = "fail" // it refuses
			}
			if got != want {
				t.Errorf("%s, %s, required %v: is %s", c.ID, c.Verdict, c.Required, got)
			}
		}
	}
}

// TestJUnitNeverGreen: a refusal without a failed check has a failed case all the same.
func TestJUnitNeverGreen(t *testing.T) {
	a := *modelAppraisal(t)
	for _, verdict := range []verify.Verdict{verify.Pass, verify.Fail} {
		a.Verdict = verdict
		var out bytes.Buffer
		if err := (&terminal{out: &out}).writeJUnit("x", []junit.Suite{junitOf("e.json", &a)}); err != nil {
			t.Fatal(err)
		}
		if s := readJUnit(t, out.String())[0]; (s.Failures > 0) != (verdict == verify.Fail) {
			t.Errorf("%s: %d failures", verdict, s.Failures)
		}
	}
}

// TestJUnitOfManyFiles: `policy check` writes one document with a suite for each file, which
// says on whose word each check passed.
func TestJUnitOfManyFiles(t *testing.T) {
	t.Chdir(folder(t, map[string][]byte{"a.json": evidencetest.New().Encode(t), "b.json": []byte("x"), "policy.toml": []byte(openPolicy), "root.pem": rootPEM(t)}))
	code, stdout, stderr := agentctl(t, "policy", "check", "--policy", "policy.toml", "--at", "2026-06-01T12:00:00Z", "--trust-test-root-that-vouches-for-no-hardware", "root.pem", "--format", "junit", "a.json", "b.json")
	if code != exitBinding {
		t.Fatalf("exit code %d\n%s", code, stderr)
	}
	suites := readJUnit(t, stdout)
	if len(suites) != 2 || suites[0].Name != "a.json" || suites[0].Failures != 0 || suites[1].Name != "b.json" || suites[1].Failures != suites[1].Tests {
		t.Errorf("%d suites", len(suites))
	}
	properties := fmt.Sprint(suites[0].Properties)
	for _, want := range []string{"{verdict pass}", "{basis guest}", "{exitCode 0}", "{binding guest-asserted}", "{freshness fresh}", "{material evidence}"} {
		if !strings.Contains(properties, want) {
			t.Errorf("no %s in %s", want, properties)
		}
	}
	if !strings.Contains(stdout, "<system-out>by the guest&#39;s word: ") || !strings.Contains(suites[0].Output, "Accepted, by the guest's word: ") {
		t.Error("the document does not say on whose word")
	}
}

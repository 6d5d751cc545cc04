// SPDX-License-Identifier: Apache-2.0

package api

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write what is generated from the tables of this package anew")

// generated checks that file has want between the lines begin and end. With -update it
// writes want there.
func generated(t *testing.T, file, begin, end, want string) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, ok := strings.Cut(string(text), begin)
	got, tail, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s has no %q and %q", file, begin, end)
	}
	if *update {
		if err := os.WriteFile(file, []byte(head+begin+want+end+tail), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if got != want {
		t.Errorf("%s does not have the tables of this package: run go test ./api -update", file)
	}
}

// TestCodes checks that the table has every constant once, each row complete.
func TestCodes(t *testing.T) {
	source, err := os.ReadFile("codes.go")
	if err != nil {
		t.Fatal(err)
	}
	declared := map[Code]bool{}
	for _, m := range regexp.MustCompile(`(?m)^\tCode\w+ +Code = "([a-z-]+)"$`).FindAllSubmatch(source, -1) {
		declared[Code(m[1])] = true
	}
	if len(declared) < 70 || len(declared) != len(codes) {
		t.Errorf("%d constants, %d rows in the table", len(declared), len(codes))
	}
	titles := map[string]Code{}
	for _, x := range Codes() {
		if !declared[x.Code] {
			t.Errorf("%q has two rows, or is not a constant", x.Code)
		}
		delete(declared, x.Code)
		if x.Status < 400 || x.Status > 599 || !slices.Contains([]int{1, 2, 6, 7, 8}, x.Exit) {
			t.Errorf("%s: status %d, exit code %d", x.Code, x.Status, x.Exit)
		}
		if other, ok := titles[x.Title]; ok || x.Title == "" {
			t.Errorf("%s and %s have one title %q", x.Code, other, x.Title)
		}
		titles[x.Title] = x.Code
		if !strings.HasSuffix(x.Meaning, ".") || x.Hint == "" || strings.ContainsAny(x.Title+x.Meaning+x.Hint, "|\n") {
			t.Errorf("%s: meaning and hint must be given, in a form that fits a table", x.Code)
		}
		p := &Problem{Code: x.Code, Detail: "d"}
		if err := fmt.Errorf("ask: %w", p); !errors.Is(err, x.Code) || !errors.Is(err, &Problem{Code: x.Code}) || errors.Is(err, Code("no-such-code")) || errors.Is(err, &Problem{}) {
			t.Errorf("%s: errors.Is", x.Code)
		}
	}
	for c := range declared {
		t.Errorf("%s is not in the table", c)
	}
	if later := Code("of-a-later-version").Info(); later.Status != 500 || later.Exit != 1 || later.Code != "of-a-later-version" {
		t.Errorf("%+v", later)
	}
}

// TestCodesAreDocumented compares the table with docs/api.md.
func TestCodesAreDocumented(t *testing.T) {
	var table strings.Builder
	table.WriteString("\n| code | status | exit | what happened | what to do |\n|---|---|---|---|---|\n")
	for _, x := range Codes() {
		fmt.Fprintf(&table, "| <a id=\"%s\"></a>`%[1]s` | %d | %d | %s | %s |\n", x.Code, x.Status, x.Exit, x.Meaning, x.Hint)
	}
	generated(t, "../docs/api.md", "<!-- codes: begin (generated) -->\n", "<!-- codes: end -->", table.String()+"\n")
}

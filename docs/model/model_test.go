// SPDX-License-Identifier: Apache-2.0

package main

import (
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the tables of README.md")

// TestBoundaries searches a small bound with all items in place: each property is broken by
// exactly the capabilities that are claimed. make model searches the whole bound.
func TestBoundaries(t *testing.T) {
	found, histories := run(4, 0, nil)
	if histories < 5000 {
		t.Fatalf("only %d histories: the search is broken", histories)
	}
	for _, difference := range differences(found) {
		t.Error(difference)
	}
}

// TestRemovals removes each item: the property that it is for breaks, or nothing breaks as
// long as another item is there.
func TestRemovals(t *testing.T) {
	if len(removals) != int(itemCount) {
		t.Fatalf("%d removals for %d items", len(removals), itemCount)
	}
	for i := range removals {
		r := &removals[i]
		if r.item != item(i) {
			t.Fatalf("removal %d is of %s: keep the order of the items", i, itemNames[r.item])
		}
		if needless := r.with != 0 || r.by == nothing; needless != (r.why != "") {
			t.Errorf("%s: say why it stays if and only if its removal alone breaks nothing", itemNames[r.item])
		}
		if _, err := r.verify(3, 4); err != nil {
			t.Error(err)
		}
	}
}

// TestClaimsThatAreWrong checks that the run notices a claim that is too good or too bad, and
// a removal that breaks more or less than its entry says.
func TestClaimsThatAreWrong(t *testing.T) {
	found, _ := run(3, 0, nil)
	found.add(freshKnown, complete, breach{need: device})
	if list := unclaimed(found); len(list) != 1 {
		t.Errorf("an attack that no claim covers: %d differences", len(list))
	}
	if list := differences(&findings{}); len(list) < 20 {
		t.Errorf("a search without attacks: %d differences", len(list))
	}
	for _, r := range []removal{
		{item: quoteRoot, breaks: complete, mode: freshKnown, by: device},
		{item: checkNonce, breaks: fresherThanNonce, mode: freshKnown, by: nothing},
		{item: checkHead, breaks: complete, mode: freshKnown, by: device},
		{item: checkReplay, breaks: byCaller, mode: freshKnown, by: root},
		{item: agentReplay, breaks: complete, mode: freshKnown, by: root, with: only(checkReplay)},
	} {
		if _, err := r.verify(3, 3); err == nil {
			t.Errorf("the entry of %s is wrong, and passes", itemNames[r.item])
		}
	}
}

// page returns a page below docs.
func page(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// partNames are names of parts in docs/evidence.md that the model spells in another way.
var partNames = strings.NewReplacer("`", "", "caller.", "", " or nothing", "", "previous digest, record", "previous digest")

// TestCommitmentsAreThoseOfTheFormat compares the parts of labelled hashes with the table in
// docs/evidence.md, section 5. The model has no tree sizes, and the label of the key proof as
// an item of its own.
func TestCommitmentsAreThoseOfTheFormat(t *testing.T) {
	row := regexp.MustCompile("(?m)^\\| `agentd/([a-z-]+)/[0-9]+` \\| ([^|]+) \\|")
	specified := map[string][]string{}
	for _, m := range row.FindAllStringSubmatch(page(t, "evidence.md"), -1) {
		specified[m[1]] = slices.DeleteFunc(strings.Split(partNames.Replace(m[2]), ", "), func(part string) bool { return part == "size" })
	}
	modelled := map[string][]string{}
	for _, name := range itemNames {
		if label, part, ok := strings.Cut(name, ": "); ok && part != "label" {
			modelled[label] = append(modelled[label], part)
		}
	}
	for _, label := range []string{"quote", "batch", "report", "anchor", "key-proof", "log"} {
		if len(modelled[label]) == 0 || !slices.Equal(specified[label], modelled[label]) {
			t.Errorf("agentd/%s is over %q in docs/evidence.md, and over %q in the model", label, specified[label], modelled[label])
		}
	}
}

// TestChecksAreThoseOfTheVerifier checks that each check of the model is one that
// docs/checks.md names.
func TestChecksAreThoseOfTheVerifier(t *testing.T) {
	checks := page(t, "checks.md")
	for i := checkNonce; i < agentProof; i++ {
		name, _, _ := strings.Cut(itemNames[i], " ")
		if !strings.Contains(checks, "| `"+name+"` |") {
			t.Errorf("docs/checks.md has no check %q", name)
		}
	}
}

// TestClaimsAreInTheSpecification checks that docs/evidence.md names each property.
func TestClaimsAreInTheSpecification(t *testing.T) {
	specification := page(t, "evidence.md")
	for _, p := range propertyNames {
		if !strings.Contains(specification, " | "+p.name+" |\n") {
			t.Errorf("docs/evidence.md, section 11, names no claim for the property %q", p.name)
		}
	}
}

// TestTables checks that README.md has the tables of this program.
func TestTables(t *testing.T) {
	readme := page(t, "model/README.md")
	text := readme
	for name, table := range map[string]string{"properties": propertyTable(), "boundaries": boundaryTable(), "removals": removalTable()} {
		begin, end := "<!-- "+name+": begin -->\n", "<!-- "+name+": end -->\n"
		before, rest, ok := strings.Cut(text, begin)
		_, after, closed := strings.Cut(rest, end)
		if !ok || !closed {
			t.Fatalf("README.md has no %s", strings.TrimSpace(begin))
		}
		text = before + begin + table + end + after
	}
	if text == readme {
		return
	}
	if !*update {
		t.Fatal("the tables of docs/model/README.md are out of date: run go test ./docs/model -update")
	}
	if err := os.WriteFile("README.md", []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

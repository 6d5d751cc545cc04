// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"slices"
	"strings"
)

// run searches all histories of a length with some items removed. It stops when enough
// reports true, if that is not nil. It returns what it found, and the number of histories.
func run(length int8, removed items, enough func(*findings) bool) (*findings, int) {
	found, histories := &findings{}, 0
	explore(length, removed, func(w *world) bool {
		histories++
		s := search{world: w, removed: removed, found: found}
		s.documents()
		return enough == nil || !enough(found)
	})
	return found, histories
}

// unclaimed lists what a run found that no claimed boundary covers.
func unclaimed(found *findings) []string {
	var list []string
	for m := range modes {
		for p := range properties {
			for _, x := range found.boundaries[m][p] {
				if !covers(claims[m][p], x.need) {
					list = append(list, fmt.Sprintf("%s: %q is broken by: %s\n%s", modeNames[m], propertyNames[p].name, x.need, x.trace))
				}
			}
		}
	}
	return list
}

// covers reports whether a set of the list is contained in need.
func covers(list []capabilities, need capabilities) bool {
	return slices.ContainsFunc(list, func(x capabilities) bool { return x&^need == 0 })
}

// differences lists what is found beyond the claims, and what is claimed and not found.
func differences(found *findings) []string {
	list := unclaimed(found)
	for m := range modes {
		for p := range properties {
			for _, need := range claims[m][p] {
				if !found.boundaries[m][p].covers(need) {
					list = append(list, fmt.Sprintf("%s: %q is claimed to be broken by %s, and no such attack was found", modeNames[m], propertyNames[p].name, need))
				}
			}
		}
	}
	return list
}

// attack returns the trace of the attack that r names, with some items removed, in the
// shortest histories that have it. It is empty if none of up to longest events has.
func (r *removal) attack(removed items, longest int8) string {
	trace := ""
	for length := int8(2); length <= longest && trace == ""; length++ {
		run(length, removed, func(f *findings) bool {
			for _, x := range f.boundaries[r.mode][r.breaks] {
				if x.need&^r.by == 0 {
					trace = x.trace
				}
			}
			return trace != ""
		})
	}
	return trace
}

// verify checks what r says, and returns the trace of the attack. It looks for attacks that
// must not be there in histories of some length, and for the one that must be there in those
// of up to longest events.
func (r *removal) verify(length, longest int8) (string, error) {
	what := propertyNames[r.breaks].name
	if r.by != nothing && covers(claims[r.mode][r.breaks], r.by) {
		return "", fmt.Errorf("%s: %q is broken by %s with all in place", itemNames[r.item], what, r.by)
	}
	if r.with != 0 || r.by == nothing {
		found, _ := run(length, only(r.item), nil)
		if list := unclaimed(found); len(list) > 0 {
			return "", fmt.Errorf("without %s alone:\n%s", itemNames[r.item], strings.Join(list, "\n"))
		}
	}
	if r.by == nothing {
		return "", nil
	}
	if r.with != 0 && r.attack(r.with, length) != "" {
		return "", fmt.Errorf("%s: without %s alone, %q is broken by %s", itemNames[r.item], r.with, what, r.by)
	}
	trace := r.attack(only(r.item)|r.with, longest)
	if trace == "" {
		return "", fmt.Errorf("without %s, %q is not broken by %s", only(r.item)|r.with, what, r.by)
	}
	return trace, nil
}

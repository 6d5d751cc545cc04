// SPDX-License-Identifier: Apache-2.0

// Package imapolicy reads policies of Linux's integrity measurement architecture (IMA), and says
// which uses of files they have measured. A policy is text, as the kernel shows it in securityfs and
// as administrators write it: one rule a line (Documentation/ABI/testing/ima_policy in the source of
// Linux).
//
//	action [condition...]
//
// The first rule whose conditions are met decides, of those with the actions measure and
// dont_measure. If none is met, nothing is measured.
package imapolicy

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/cvm-agentd/agentd/internal/text"
)

// MaxPolicy is the longest policy that is read, in bytes.
const MaxPolicy = 1 << 20

// A Policy is the rules about measuring, in their order.
type Policy struct{ rules []rule }

// A rule is one line.
type rule struct {
	measure    bool
	conditions []condition
}

// condition is one word, such as fowner=0.
type condition struct {
	key      string
	operator byte // =, < or >
	value    string
}

// A Use is one way in which a process uses a file.
type Use struct {
	Func       string // what the kernel checks: BPRM_CHECK, MMAP_CHECK or FILE_CHECK
	Mask       string // MAY_EXEC or MAY_READ
	UID        uint32 // of the process, real and effective
	Owner      uint32 // of the file
	Group      uint32 // of the file
	FileSystem uint32 // its magic number, as of statfs(2)
}

// Answer says whether a use is measured.
type Answer int

// Answers.
const (
	No      Answer = iota
	Yes            // a rule measures it
	Unknown        // a rule that comes first has a condition that is not understood here
)

// actions are the first words of rules; true for those about measuring.
var actions = map[string]bool{
	"measure": true, "dont_measure": true,
	"appraise": false, "dont_appraise": false, "hash": false, "dont_hash": false, "audit": false,
}

// Parse reads a policy. Lines about other things than measuring are passed over; one that is not a
// rule is an error.
func Parse(b []byte) (*Policy, error) {
	if len(b) > MaxPolicy {
		return nil, fmt.Errorf("a policy of %d bytes, want at most %d", len(b), MaxPolicy)
	}
	p, n := new(Policy), 0
	for line := range strings.Lines(string(b)) {
		n++
		words := strings.Fields(line)
		if len(words) == 0 || strings.HasPrefix(words[0], "#") {
			continue
		}
		measuring, known := actions[words[0]]
		if !known {
			return nil, fmt.Errorf("line %d: %s is not an action", n, text.Excerpt(words[0]))
		}
		if !measuring {
			continue
		}
		r := rule{measure: words[0] == "measure"}
		for _, w := range words[1:] {
			if c, ok := conditionOf(w); ok {
				r.conditions = append(r.conditions, c)
			}
		}
		p.rules = append(p.rules, r)
	}
	return p, nil
}

// options are words of a rule that say how to measure, and not what.
var options = []string{"pcr", "template", "digest_type", "permit_directio", "appraise_type", "appraise_flag", "appraise_algos"}

// conditionOf returns the condition of a word, false if the word is an option.
func conditionOf(w string) (condition, bool) {
	i := strings.IndexAny(w, "=<>")
	key := w
	if i >= 0 {
		key = w[:i]
	}
	if slices.Contains(options, key) {
		return condition{}, false
	}
	if i < 0 {
		return condition{key: key}, true
	}
	return condition{key: key, operator: w[i], value: w[i+1:]}, true
}

// Measures says whether a use is measured.
func (p *Policy) Measures(u Use) Answer {
	for _, r := range p.rules {
		met := Yes
		for _, c := range r.conditions {
			met = both(met, c.met(&u))
		}
		switch {
		case met == Unknown:
			return Unknown
		case met == No:
		case r.measure:
			return Yes
		default:
			return No
		}
	}
	return No
}

// both joins answers to two conditions that must both be met.
func both(a, b Answer) Answer {
	switch {
	case a == No || b == No:
		return No
	case a == Unknown || b == Unknown:
		return Unknown
	}
	return Yes
}

// same are the older names of checks.
var same = map[string]string{"FILE_MMAP": "MMAP_CHECK", "PATH_CHECK": "FILE_CHECK"}

// met says whether a use meets a condition.
func (c condition) met(u *Use) Answer {
	is := func(ok bool) Answer {
		if ok {
			return Yes
		}
		return No
	}
	switch c.key {
	case "func":
		name := c.value
		if s, ok := same[name]; ok {
			name = s
		}
		return is(name == u.Func)
	case "mask": // what is used has one right; ^ asks that it is among others too
		return is(strings.TrimPrefix(c.value, "^") == u.Mask)
	case "uid", "euid":
		return c.number(u.UID)
	case "fowner":
		return c.number(u.Owner)
	case "fgroup":
		return c.number(u.Group)
	case "fsmagic":
		n, err := strconv.ParseUint(strings.TrimPrefix(c.value, "0x"), 16, 32)
		if err != nil {
			return Unknown
		}
		return is(uint32(n) == u.FileSystem)
	}
	return Unknown
}

// number compares an id.
func (c condition) number(id uint32) Answer {
	n, err := strconv.ParseUint(c.value, 10, 32)
	if err != nil {
		return Unknown
	}
	ok := map[byte]bool{'=': id == uint32(n), '<': id < uint32(n), '>': id > uint32(n)}[c.operator]
	if !ok {
		return No
	}
	return Yes
}

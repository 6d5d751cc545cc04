// SPDX-License-Identifier: Apache-2.0

package verdict

import (
	"fmt"
	"slices"
	"strings"

	"github.com/cvm-agentd/agentd/internal/text"
	"github.com/cvm-agentd/agentd/verify"
)

// A Reason is why checks are not asserted. Those that were required refuse the evidence.
type Reason struct {
	Required bool
	Sentence string
}

// Open are the checks that are not asserted, by reason, those that refuse the evidence
// first.
type Open struct {
	Reasons []Reason
	IDs     map[Reason][]string
	Total   int
}

// OpenOf returns what an appraisal leaves open.
func OpenOf(a *verify.Appraisal) *Open {
	o := &Open{IDs: map[Reason][]string{}}
	for _, c := range With(a, verify.NotAsserted) {
		r := Reason{c.Required, c.Sentence}
		if o.IDs[r] == nil {
			o.Reasons = append(o.Reasons, r)
		}
		o.IDs[r] = append(o.IDs[r], string(c.ID))
		o.Total++
	}
	slices.SortStableFunc(o.Reasons, func(x, y Reason) int {
		switch {
		case x.Required == y.Required:
			return 0
		case x.Required:
			return -1
		}
		return 1
	})
	return o
}

// Parts is how many checks each part of an appraisal has.
type Parts struct {
	order []string
	size  map[string]int
}

// PartsOf counts the checks of an appraisal by part.
func PartsOf(a *verify.Appraisal) *Parts {
	p := &Parts{size: map[string]int{}}
	for _, c := range a.Checks {
		part, _, _ := strings.Cut(string(c.ID), ".")
		if p.size[part]++; p.size[part] == 1 {
			p.order = append(p.order, part)
		}
	}
	return p
}

// split returns the checks by part, without the part in their names.
func split(ids []string) map[string][]string {
	out := map[string][]string{}
	for _, id := range ids {
		part, check, _ := strings.Cut(id, ".")
		out[part] = append(out[part], check)
	}
	return out
}

// Name names checks in few words: "log.head, quote (magic, type), all 16 of anchor", or if there
// are several such parts, "all of anchor, svsm and ima".
func (p *Parts) Name(ids []string) string {
	byPart := split(ids)
	var out, whole []string
	at := 0 // place of the parts of which all checks are named
	for _, part := range p.order {
		switch names := byPart[part]; len(names) {
		case 0:
		case 1:
			out = append(out, part+"."+names[0])
		case p.size[part]:
			if whole = append(whole, part); len(whole) == 1 {
				at = len(out)
			}
		default:
			out = append(out, fmt.Sprintf("%s (%s)", part, strings.Join(names, ", ")))
		}
	}
	switch last := len(whole) - 1; last {
	case -1:
	case 0:
		out = slices.Insert(out, at, fmt.Sprintf("all %d of %s", p.size[whole[0]], whole[0]))
	default:
		out = slices.Insert(out, at, fmt.Sprintf("all of %s and %s", strings.Join(whole[:last], ", "), whole[last]))
	}
	return strings.Join(out, ", ")
}

// NameOptional names checks that nothing asked for. Rules that a policy does not have are
// counted.
func (p *Parts) NameOptional(ids []string) string {
	const policy = "policy"
	unused := len(split(ids)[policy])
	if unused == 0 {
		return p.Name(ids)
	}
	words := fmt.Sprintf("%s (%s that it lacks or that do not apply)", policy, text.Count(unused, "rule"))
	rest := slices.DeleteFunc(slices.Clone(ids), func(id string) bool { return strings.HasPrefix(id, policy+".") })
	if len(rest) == 0 {
		return words
	}
	return p.Name(rest) + ", " + words
}

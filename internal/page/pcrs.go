// SPDX-License-Identifier: Apache-2.0

package page

import (
	"fmt"
	"strings"

	"github.com/cvm-agentd/agentd/internal/text"
	"github.com/cvm-agentd/agentd/verify"
)

// A bank is the quoted values of one bank of PCRs.
type bank struct {
	Name string
	PCRs []pcrRow
}

// A pcrRow is a quoted value, what explains it, and on whose word.
type pcrRow struct {
	Index           uint32
	Value           string
	Explained, By   string
	Silent, ByGuest bool // nothing explains it; it rests on the guest's word
}

// explanations say what explains the value of a PCR.
var explanations = map[verify.Explanation]string{
	verify.ByLog:       "the agent's log leads to it",
	verify.ByPolicy:    "your policy lists it",
	verify.ByFirmware:  "the firmware's log leads to it, which nothing vouches for",
	verify.ByIMA:       "the kernel's list (IMA) leads to it",
	verify.Unexplained: "nothing explains it",
}

// banks returns the quoted values by bank, and what is left out.
func (w words) banks(pcrs []verify.PCRClaim) (out []bank, more string) {
	pcrs, left := some(pcrs, maxPCRs)
	at := map[string]int{}
	for _, p := range pcrs {
		i, ok := at[p.Bank]
		if !ok {
			i = len(out)
			at[p.Bank] = i
			out = append(out, bank{Name: name(p.Bank)})
		}
		explained := explanations[p.Explained]
		if explained == "" {
			explained = name(p.Explained)
		}
		out[i].PCRs = append(out[i].PCRs, pcrRow{
			Index: p.Index, Value: name(p.Value), Explained: explained, By: w.by(p.Basis),
			Silent: p.Explained == verify.Unexplained, ByGuest: p.Basis == verify.ByGuest,
		})
	}
	if left > 0 {
		more = text.Count(left, "value") + " more: agentctl verify --format json has them."
	}
	return out, more
}

// quoted lists the quoted PCRs by bank, with ranges.
func quoted(pcrs []verify.PCRClaim) string {
	var order []string
	indexes := map[string][]uint32{}
	for _, p := range pcrs {
		if indexes[p.Bank] == nil {
			order = append(order, p.Bank)
		}
		indexes[p.Bank] = append(indexes[p.Bank], p.Index)
	}
	var out []string
	for _, b := range order {
		out = append(out, "PCR "+ranges(indexes[b])+" ("+b+")")
	}
	return strings.Join(out, "; ")
}

// ranges spells ascending numbers, such as "0 to 7, 13".
func ranges(list []uint32) string {
	var out []string
	for i := 0; i < len(list); {
		j := i
		for j+1 < len(list) && list[j+1] == list[j]+1 {
			j++
		}
		switch j - i {
		case 0:
			out = append(out, fmt.Sprint(list[i]))
		case 1:
			out = append(out, fmt.Sprint(list[i]), fmt.Sprint(list[j]))
		default:
			out = append(out, fmt.Sprintf("%d to %d", list[i], list[j]))
		}
		i = j + 1
	}
	return strings.Join(out, ", ")
}

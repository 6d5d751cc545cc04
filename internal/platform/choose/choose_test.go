// SPDX-License-Identifier: Apache-2.0

package choose

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/internal/platform"
)

// strength is the order of bindings that evidence can have, by the source of its reports.
var strength = map[platform.Source]int{
	platform.SourceSVSM: 3, platform.SourceParavisor: 2, platform.SourceConfigFS: 1, platform.SourceSEVGuest: 1,
}

// serves is what each name of the configuration allows.
var serves = map[platform.Name][]platform.Source{
	platform.Auto:     {platform.SourceSVSM, platform.SourceParavisor, platform.SourceConfigFS, platform.SourceSEVGuest},
	platform.SVSM:     {platform.SourceSVSM},
	platform.Azure:    {platform.SourceParavisor},
	platform.ConfigFS: {platform.SourceConfigFS},
	platform.SEVGuest: {platform.SourceSEVGuest},
	platform.GCP:      {platform.SourceConfigFS, platform.SourceSEVGuest},
	platform.AWS:      {platform.SourceConfigFS, platform.SourceSEVGuest},
}

// each calls f for each combination of what the looks find: 0 there, 1 absent, 2 cannot be told.
func each(f func(map[device]int)) {
	all := slices.Sorted(maps.Keys(looks))
	total := 1
	for range all {
		total *= 3
	}
	for n := range total {
		state := map[device]int{}
		for _, x := range all {
			state[x] = n % 3
			n /= 3
		}
		f(state)
	}
}

// TestStrongestWins: for each name and each combination of devices, the strongest way that the
// name allows is chosen. A device of which it cannot be told whether it is there is waited for,
// unless a stronger one is there. An index of a paravisor does not count beside the SNP driver.
func TestStrongestWins(t *testing.T) {
	if got, want := slices.Sorted(maps.Keys(serves)), slices.Sorted(slices.Values(platform.Names())); !slices.Equal(got, want) {
		t.Fatalf("the table has %v, want %v", got, want)
	}
	unknown := errors.New("cannot be told")
	for want, allowed := range serves {
		each(func(state map[device]int) {
			w, c, err := choose(want, func(x device) finding {
				return []finding{{there: true, says: string(x) + " there"}, {says: string(x) + " absent"}, {err: unknown}}[state[x]]
			})
			best, wait := expected(allowed, state, want == platform.Auto)
			plain := best == platform.SourceConfigFS || best == platform.SourceSEVGuest
			if want == platform.Auto && plain && state[googlesVTPM] == 2 {
				wait = true
			}
			switch {
			case wait:
				if !errors.Is(err, unknown) {
					t.Errorf("%s, %v: chose %q, %v; want to wait", want, state, w.source, err)
				}
			case best == "":
				if !errors.Is(err, platform.ErrAbsent) || !strings.Contains(err.Error(), fmt.Sprintf("%q", want)) {
					t.Errorf("%s, %v: chose %q, %v; want nothing", want, state, w.source, err)
				}
			case err != nil || w.source != best || c.Source != best:
				t.Errorf("%s, %v: chose %q, %v; want %q", want, state, w.source, err, best)
			case !strings.Contains(c.Why, string(w.device)+" there"), want != platform.Auto && !strings.Contains(c.Why, string(want)):
				t.Errorf("%s, %v: the reason is %q", want, state, c.Why)
			default:
				if m := machineOf(want, best, state); c.Machine != m {
					t.Errorf("%s, %v: machine %q, want %q", want, state, c.Machine, m)
				}
			}
		})
	}
}

// expected returns the strongest source of those allowed that is there, and whether a device
// before it has to be waited for.
func expected(allowed []platform.Source, state map[device]int, auto bool) (best platform.Source, wait bool) {
	for _, s := range allowed {
		i := slices.IndexFunc(ways, func(w way) bool { return w.source == s })
		if i < 0 {
			continue
		}
		switch state[ways[i].device] {
		case 0:
			if auto && s == platform.SourceParavisor && state[theDriver] != 1 {
				if state[theDriver] == 2 {
					return "", true
				}
				continue // a paravisor's guest has no such device
			}
			return s, false
		case 2:
			return "", true
		}
	}
	return "", false
}

func machineOf(want platform.Name, s platform.Source, state map[device]int) platform.Machine {
	switch {
	case s == platform.SourceSVSM:
		return platform.MachineSVSM
	case s == platform.SourceParavisor:
		return platform.MachineAzure
	case want == platform.GCP, want == platform.Auto && state[googlesVTPM] == 0:
		return platform.MachineGCP
	case want == platform.AWS:
		return platform.MachineAWS
	}
	return platform.MachineSNP
}

// TestWaysAreInOrder: a way never comes before one with a stronger binding.
func TestWaysAreInOrder(t *testing.T) {
	for i, w := range ways {
		if strength[w.source] == 0 {
			t.Errorf("source %q has no strength", w.source)
		}
		if i > 0 && strength[w.source] > strength[ways[i-1].source] {
			t.Errorf("%q comes after the weaker %q", w.source, ways[i-1].source)
		}
	}
}

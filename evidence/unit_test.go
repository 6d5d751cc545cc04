// SPDX-License-Identifier: Apache-2.0

package evidence_test

import (
	"testing"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/unitname"
)

// TestInUnit: a unit is in itself, and an instance in its template, as systemd takes names apart
// (case 109).
func TestInUnit(t *testing.T) {
	names := []string{
		"a.service", "a@.service", "a@1.service", "a@b@c.service", "a@b@.service", "a@@.service", "a@.service.service", "a@b.c.service", "aa@1.service",
		"a@1.socket", "a@.socket", "a.b@.service", "a.b@1.service", "b@.service", "", "a@", "@.service", "a@service", "a",
	}
	for _, declared := range names {
		for _, unit := range names {
			want := declared == unit
			if n, err := unitname.Parse(unit); err == nil {
				template, ok := n.TemplateOf()
				want = want || ok && template == declared
			}
			if got := evidence.InUnit(declared, unit); got != want {
				t.Errorf("a unit %q, declared %q: %v, want %v", unit, declared, got, want)
			}
		}
	}
}

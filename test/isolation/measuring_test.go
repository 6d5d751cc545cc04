// SPDX-License-Identifier: Apache-2.0

package isolation

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// measureChanged is what a unit does that starts after its program was replaced. It takes a
// record, of which an app gets only so many, and so goes over several apps.
func (m *machine) measureChanged() party {
	m.t.Helper()
	p := m.measure()
	p.Path, p.Requests, p.For, p.Pause = "/v1/apps/changed%I/measure", 12, 0, 0
	for i := range 4 {
		name := filepath.Join(m.files, fmt.Sprintf("changed%d", i))
		must(m.t, os.WriteFile(name, []byte("first"), 0o755))
		m.declare(fmt.Sprintf("changed%d", i), "root", name)
		p.Replace = append(p.Replace, name)
	}
	_, err := m.Admin().Reload(m.t.Context())
	must(m.t, err)
	return p
}

// An app that keeps the agent hashing does not delay the measurement of another one: its own
// user makes its files large, and touches them all the time.
func TestLargeFilesThatChange(t *testing.T) {
	m := switchOn(t)
	attack := m.asOther(party{Connections: 1, Pause: time.Second, Size: 4 << 30})
	for i := range 4 {
		name := filepath.Join(m.files, fmt.Sprintf("large%d", i))
		must(t, os.WriteFile(name, nil, 0o644))
		must(t, os.Chown(name, int(attack.UID), -1))
		attack.Touch = append(attack.Touch, name)
	}
	m.declare("other", m.other.Username, attack.Touch...)
	changed, work := m.measureChanged(), m.measure()
	work.Requests, work.For = 5, 2*time.Second
	m.compare(work, 5, attack)
	changed.Pause = 100 * time.Millisecond
	m.compare(changed, 5, attack)
}

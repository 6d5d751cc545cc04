// SPDX-License-Identifier: Apache-2.0

package replay

import (
	"fmt"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/pcr"
)

// Container is the start of a container, with what the agent found. The log does not say when a
// container ended.
type Container struct {
	Record uint64 `json:"record"` // number of its record
	pcr.ContainerEvent
}

// containerKey names a container. An engine may start one again under the same id.
type containerKey struct{ engine, id string }

func (h *history) addContainer(number uint64, e *pcr.ContainerEvent) {
	h.containers[containerKey{e.Engine, e.ID}] = len(h.Containers)
	h.Containers = append(h.Containers, Container{Record: number, ContainerEvent: *e})
}

// container returns the last start of the container that a statement names, nil if there is none.
func (h *history) container(c *evidence.Container) *Container {
	if c == nil {
		return nil
	}
	if i, ok := h.containers[containerKey{c.Engine, c.ID}]; ok {
		return &h.Containers[i]
	}
	return nil
}

// inContainer checks what the statement says of the caller's container against the log. It reports
// whether that was the right one, and whether the container is the caller's application.
func (w *walk) inContainer(c *evidence.Caller) (ok, isApp bool) {
	s := c.Container
	name := fmt.Sprintf("container %q of %s", s.ID, s.Engine)
	m := w.state.container(s)
	if m == nil {
		w.Decide(statedCaller.ID, false, name+" in the log", "nothing of it", "the statement names a container as the caller's, and the log says nothing of it")
		return false, false
	}
	same := m.Started == s.Started && m.Root.Digest == s.Root && equalDigest(m.Image.Config, s.Image)
	if !w.Decide(statedCaller.ID, same,
		fmt.Sprintf("started at %d, root %s, image %s", m.Started, m.Root.Digest, digestText(m.Image.Config)),
		fmt.Sprintf("started at %d, root %s, image %s", s.Started, s.Root, digestText(s.Image)),
		"the log has the caller's %s as another one: record %d", name, m.Record) {
		return false, false
	}
	if m.App == "" {
		return true, false
	}
	covered := c.Executable != nil && c.Executable.Covered
	withdrawn := c.App == "" && m.Declaration != nil && !w.state.declares(m.App, *m.Declaration) // then it is not an application any more
	return w.Decide(statedCaller.ID, (m.App == c.App || withdrawn) && !covered, fmt.Sprintf("application %q", m.App), fmt.Sprintf("application %q, covered %t", c.App, covered),
		"the log has the caller's %s as another application, or one without a manifest that lists files: record %d", name, m.Record), true
}

func equalDigest(a, b *evidence.Digest) bool { return a == b || a != nil && b != nil && *a == *b }

func digestText(d *evidence.Digest) string {
	if d == nil {
		return "not known"
	}
	return d.String()
}

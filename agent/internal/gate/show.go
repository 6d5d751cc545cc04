// SPDX-License-Identifier: Apache-2.0

package gate

import (
	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/internal/metrics"
)

// Status returns how the gate does, nil if no app asks for it and none is there.
func (s *Server) Status(asked int) *api.GateStatus {
	c := s.Counts()
	if asked == 0 && !c.Present {
		return nil
	}
	return &api.GateStatus{Present: c.Present, Asked: asked, Guarded: c.Guarded}
}

// Metrics adds what the server counts.
func (s *Server) Metrics(to *metrics.Set) {
	c := s.Counts()
	to.Flag("agentd_gate_present", "Whether the gate is connected.", c.Present)
	to.Gauge("agentd_gate_guarded", "Apps that the gate guards, by the log.", float64(c.Guarded))
	to.Counter("agentd_gate_questions", "Starts of programs that the gate asked about.", float64(c.Asked))
	for _, x := range []struct {
		outcome string
		n       uint64
	}{{"started", c.Recorded}, {"refused", c.Refused}} {
		to.Counter("agentd_gate_unlisted", "Programs that no manifest lists and that were recorded.", float64(x.n), metrics.Label{Name: "outcome", Value: x.outcome})
	}
	to.Counter("agentd_gate_gaps", "Records that programs may have started without the gate.", float64(c.Gaps))
}

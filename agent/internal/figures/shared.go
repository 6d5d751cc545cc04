// SPDX-License-Identifier: Apache-2.0

package figures

import (
	"time"

	"github.com/cvm-agentd/agentd/agent/internal/attest"
	"github.com/cvm-agentd/agentd/agent/internal/reports"
	"github.com/cvm-agentd/agentd/agent/internal/startup"
	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/internal/metrics"
)

// Shared asks for what each user may know: what `GET /v1/status` tells them too, and how long
// the devices take. It has no name of an application, and nothing that says what one user does.
// All fields are required.
type Shared struct {
	Started  time.Time // when the agent started
	Status   func() api.Status
	Attester *startup.Part[*attest.Attester]
	Platform *reports.Watched
}

// appsHelp describes a family that has some samples for each user and others for administrators.
const appsHelp = "Declared apps, by state. One that is being read is also measured or unmeasured."

// Metrics adds these figures.
func (s Shared) Metrics(to *metrics.Set) {
	st := s.Status()
	to.Gauge("agentd_build_info", "Version of the agent, as a label.", 1, label("version", st.Version))
	to.Gauge("agentd_uptime_seconds", "Time since the agent started.", time.Since(s.Started).Seconds())
	to.Flag("agentd_evidence_ready", "Whether the next request for evidence gets some.", st.Evidence.Ready)
	to.Gauge("agentd_apps", appsHelp, float64(st.Apps.Measured), label("state", "measured"))
	to.Gauge("agentd_apps", appsHelp, float64(st.Apps.Unmeasured), label("state", "unmeasured"))
	to.Flag("agentd_watch_ok", "Whether changes of files are noticed as they happen.", st.Watch.State == api.StateOK)
	to.Flag("agentd_tpm_ok", "Whether the TPM works.", st.TPM.State == api.StateOK)
	to.Flag("agentd_platform_ok", "Whether the platform gives reports.", st.Platform.State == api.StateOK)
	to.Flag("agentd_keys_ok", "Whether sealed blobs can be opened.", st.Keys.State == api.StateOK)
	to.Gauge("agentd_sealed_blobs", "Sealed blobs that the manifest of the store lists.", float64(st.Keys.Blobs))
	ledger := &st.Ledger
	to.Gauge("agentd_log_records", "Records of the measurement log.", float64(ledger.Records))
	to.Flag("agentd_log_synchronised", "Whether measurement log and PCR explain each other.", ledger.Synchronised)
	to.Flag("agentd_log_full", "Whether the measurement log takes nothing more until the next boot.", ledger.Full)
	to.Gauge("agentd_events", "Events of apps in the log, since boot.", float64(st.Events.Recorded))
	to.Gauge("agentd_event_bytes", "Bytes of the log that events of apps have.", float64(st.Events.Bytes))
	to.Gauge("agentd_event_bytes_limit", "Bytes of the log that events of apps may have.", float64(st.Events.Limit))
	to.Counter("agentd_events_refused", "Events of apps that were refused, because a quota was used up or an app asked too often.", float64(st.Events.Refused))
	s.evidence(to, &st.Batches)
}

// evidence adds what became of requests for evidence, and how long the devices took.
func (s Shared) evidence(to *metrics.Set, b *api.BatchCounts) {
	for _, x := range []struct {
		lane string
		n    uint64
	}{{attest.FreshLane, b.Fresh}, {attest.AnchoredLane, b.Anchored}} {
		to.Counter("agentd_evidence_batches", "Batches of evidence, by what their report is.", float64(x.n), label("lane", x.lane))
	}
	to.Counter("agentd_evidence_failed_batches", "Batches that failed as a whole.", float64(b.Failed))
	to.Counter("agentd_evidence_statements", "Statements that were answered with evidence.", float64(b.Statements))
	to.Gauge("agentd_evidence_largest_batch", "Statements of the largest batch.", float64(b.Largest))
	if a, up := s.Attester.Now(); up {
		quotes, sizes := a.Figures()
		to.Histogram("agentd_quote_duration_seconds", "Time that the TPM took for a quote, with the wait for it.", quotes)
		for _, lane := range []string{attest.FreshLane, attest.AnchoredLane} {
			to.Histogram("agentd_evidence_batch_statements", "Statements of a batch that was answered, by what its report is.", sizes[lane], label("lane", lane))
		}
	}
	to.Histogram("agentd_report_duration_seconds", "Time that the platform took for a report, once it was the turn of it.", s.Platform.Took())
}

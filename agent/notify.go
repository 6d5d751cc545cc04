// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"fmt"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"github.com/cvm-agentd/agentd/api"
)

// notify tells systemd of a state; without systemd nobody is told (sd_notify(3)).
func (d *Daemon) notify(state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		d.log.Warn("systemd could not be told", "state", state, "error", err)
	}
}

// notifyReloading opens a reload, which READY=1 closes (Type=notify-reload).
func (d *Daemon) notifyReloading() {
	d.notify(daemon.SdNotifyReloading + "\n" + daemon.SdNotifyMonotonicUsec())
}

// linePause is how often the line for systemctl(1) is looked at.
const linePause = 5 * time.Second

// statusLine keeps the line that `systemctl status` shows, whenever it changes.
func (d *Daemon) statusLine(ctx context.Context) {
	tick := time.NewTicker(linePause)
	defer tick.Stop()
	last := ""
	for {
		if line := line(d.Status()); line != last {
			last = line
			d.notify("STATUS=" + line)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// line says in a few words what the agent can do. Reasons are left to agentctl status:
// they can hold anything, this line must be one.
func line(s api.Status) string {
	switch {
	case s.TPM.Reason == api.ReasonStarting, s.Ledger.Reason == api.ReasonStarting:
		return "No evidence yet: the agent is starting"
	case s.TPM.State != api.StateOK:
		return fmt.Sprintf("No evidence: the TPM is %s", s.TPM.State)
	case s.Ledger.Reason != "" && !s.Ledger.Synchronised:
		return "No evidence: measurement log and PCR are not in step"
	case s.Platform.State == api.StateAbsent:
		return "No evidence: there is no report device"
	}
	out := fmt.Sprintf("%d of %d applications measured, %d records", s.Apps.Measured, s.Apps.Declared, s.Ledger.Records)
	if s.Ledger.Full {
		out += ", log full"
	}
	if s.Platform.State == api.StateDegraded {
		out += ", reports fail"
	}
	return out
}

// watchdog feeds systemd's watchdog, where it asks for that, as long as the daemon's
// own parts let themselves be looked at. A TPM that hangs does not starve it: a
// restart would not mend the TPM, and status shows it.
func (d *Daemon) watchdog(ctx context.Context) {
	every, err := daemon.SdWatchdogEnabled(false)
	if err != nil || every == 0 {
		return
	}
	tick := time.NewTicker(every / 2)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			d.Status()
			d.notify(daemon.SdNotifyWatchdog)
		}
	}
}

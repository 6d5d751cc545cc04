package daemon

import (
	"context"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
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

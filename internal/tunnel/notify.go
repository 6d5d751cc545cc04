// SPDX-License-Identifier: Apache-2.0

package tunnel

import (
	"fmt"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"github.com/cvm-agentd/agentd/internal/text"
)

// States that systemd is told (sd_notify(3)).
const (
	readyState    = daemon.SdNotifyReady
	stoppingState = daemon.SdNotifyStopping
)

// reloadingState opens a reload, which readyState closes (Type=notify-reload).
func reloadingState() string { return daemon.SdNotifyReloading + "\n" + daemon.SdNotifyMonotonicUsec() }

// statusPause is how often the line of systemctl(1) is read.
const statusPause = 5 * time.Second

// notify tells systemd a state. Without systemd it does nothing.
func (t *tunnel) notify(state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		t.Log(fmt.Sprintf("systemd could not be told: %v", err))
	}
}

// notifyStatus tells systemd the line that `systemctl status` shows.
func (t *tunnel) notifyStatus() {
	t.mu.Lock()
	n := t.open
	t.mu.Unlock()
	t.notify(fmt.Sprintf("STATUS=%s to %s", text.Count(n, "open connection"), t.now.Load().To))
}

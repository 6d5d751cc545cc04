// SPDX-License-Identifier: Apache-2.0

// Package systemd tells systemd how the agent does (sd_notify(3)), takes the sockets that
// systemd opened, and keeps a document in systemd's descriptor store. Without systemd it does
// nothing.
package systemd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
	"github.com/coreos/go-systemd/v22/daemon"

	"github.com/cvm-agentd/agentd/internal/socket"
)

// A Notifier tells systemd.
type Notifier struct{ Log *slog.Logger }

func (n Notifier) tell(state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		n.Log.Warn("systemd could not be told", "state", state, "error", err)
	}
}

// Ready says that the agent started, or that a reload is over.
func (n Notifier) Ready() { n.tell(daemon.SdNotifyReady) }

// Stopping says that the agent is about to end.
func (n Notifier) Stopping() { n.tell(daemon.SdNotifyStopping) }

// Reloading opens a reload, which Ready closes (Type=notify-reload).
func (n Notifier) Reloading() {
	n.tell(daemon.SdNotifyReloading + "\n" + daemon.SdNotifyMonotonicUsec())
}

// linePause is how often the line for systemctl(1) is read.
const linePause = 5 * time.Second

// Show keeps the line that `systemctl status` shows, until ctx ends.
func (n Notifier) Show(ctx context.Context, line func() string) {
	tick := time.Tick(linePause)
	last := ""
	for {
		if now := line(); now != last {
			last = now
			n.tell("STATUS=" + now)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick:
		}
	}
}

// Watch feeds systemd's watchdog, if systemd asks for that, while look returns. A TPM that
// hangs does not starve it: a restart would not repair the TPM, and status shows it.
func (n Notifier) Watch(ctx context.Context, look func()) {
	every, err := daemon.SdWatchdogEnabled(false)
	if err != nil || every == 0 {
		return
	}
	tick := time.Tick(every / 2)
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick:
			look()
			n.tell(daemon.SdNotifyWatchdog)
		}
	}
}

// Passed is what systemd passed to this process.
type Passed struct {
	Client, Admin, Credentials, Gate *os.File // sockets that systemd opened, nil if absent

	kept, held []*os.File // from the descriptor store: documents, and connections
}

// Take returns what systemd passed, once. Sockets are named "client", "admin",
// "credentials" and "gate" (FileDescriptorName= in systemd.socket(5)). A descriptor with another name is an error, since
// nothing would serve it.
func Take() (p Passed, err error) {
	if err := socket.CountPassed(maxPassed); err != nil {
		return p, err
	}
	for _, f := range activation.Files(true) {
		switch name := f.Name(); {
		case name == "client" && p.Client == nil:
			p.Client = f
		case name == "admin" && p.Admin == nil:
			p.Admin = f
		case name == "credentials" && p.Credentials == nil:
			p.Credentials = f
		case name == "gate" && p.Gate == nil:
			p.Gate = f
		case isKept(name):
			p.kept = append(p.kept, f)
		case isHeld(name):
			p.held = append(p.held, f)
		default:
			err = errors.Join(err, fmt.Errorf("systemd passed a socket named %q: want one \"client\", one \"admin\", one \"credentials\" and one \"gate\" (FileDescriptorName=)", name), f.Close())
		}
	}
	return p, err
}

// maxPassed is how many descriptors systemd may pass: four sockets and what the store keeps.
const maxPassed = 16 + MostHeld

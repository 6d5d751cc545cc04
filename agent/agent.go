// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"log/slog"
	"os"

	"github.com/cvm-agentd/agentd/agent/internal/ledger"
	"github.com/cvm-agentd/agentd/agent/internal/startup"
	"github.com/cvm-agentd/agentd/internal/caller"
	"github.com/cvm-agentd/agentd/internal/config"
	"github.com/cvm-agentd/agentd/internal/platform"
	"github.com/cvm-agentd/agentd/internal/secret"
	"github.com/cvm-agentd/agentd/internal/tpm"
)

// LogFile is the name of the measurement log, in the log folder of the configuration.
const LogFile = ledger.LogFile

// Machine is the hardware that the agent runs on, or its double.
type Machine struct {
	OpenTPM      func(ctx context.Context) (*tpm.Device, error)
	OpenPlatform func() (platform.Platform, error)
	BootID       string // of the kernel's boot; empty if not known
}

// Options say what to run.
type Options struct {
	Config     config.Config
	ConfigText []byte                                // as it was read; nil without a file
	Reread     func() (config.Config, []byte, error) // reads the configuration again, for a reload
	Machine    Machine
	Version    string   // of the daemon, for log and status
	AdminUIDs  []uint32 // users that may use the admin socket besides root
	Log        *slog.Logger
	Callers    func(caller.Identifier) caller.Identifier // wraps what the kernel says of callers; may be nil
	Ready      func()                                    // called once, after the first attempt to bring everything up; may be nil
}

// Run runs the agent until ctx ends, then answers the requests that have reached it and
// returns. A value on reload, which may be nil, means that declarations and certificates
// are to be read again. An error means that the agent could not be started or served.
func Run(ctx context.Context, o Options, reload <-chan os.Signal) error {
	d, err := newDaemon(o)
	if err != nil {
		return err
	}
	// No key was asked for yet. The executable is hashed already: /proc/self is root's now.
	if err := secret.HideProcess(); err != nil {
		return err
	}
	return d.run(ctx, reload)
}

// Refused reports whether err, returned by [Run] or by reading the configuration, is one
// that a new start does not repair: a person has to change something first.
func Refused(err error) bool {
	var r *startup.Refusal
	var c *config.Error
	return errors.As(err, &r) || errors.As(err, &c)
}

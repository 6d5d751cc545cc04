// SPDX-License-Identifier: Apache-2.0

// Package agent is the service: [Run] builds its parts, connects them, runs them until it is
// told to end, and stops them. The command that is installed and the one for development
// differ only in the [Machine] that they pass; this package knows no simulator.
//
// # Who calls whom
//
// The server answers requests by calling the parts, each of which is a package below
// internal: attest makes evidence, from quotes of vtpm, reports of the platform and the
// ledger; apps measures applications into the ledger; enrol shows, activates and replaces
// the attestation key; vault answers for sealed blobs; status reads all of them. startup
// brings up what they need. No part calls the server or this package.
//
// # Who owns which state
//
//	identity   the agent key, in memory; the digests of executable and configuration
//	startup    what is up, and why the rest is not
//	enrol      the attestation key, ak.json or ak-rsa.json in the state folder
//	ledger     the measurement log, the PCR, ledger.json in the state folder
//	apps       the declarations in force, and what was measured by them
//	attest     the callers that wait for evidence, and the anchor
//	reports    the report device, and the certificates stapled to its reports
//	vault      the store of sealed blobs, the folder sealed in the state folder
//
// Each guards its state with a lock of its own. A daemon has no lock: its fields are
// written before the first goroutine starts.
//
// # Start
//
// The sockets exist first, so that callers that connect early wait instead of being turned
// away. Then the parts are brought up. A mistake that only a person can repair (a bad
// configuration, a PCR that cannot contain a log) ends the start with an error, and so does a
// second agent. One that was killed and that the kernel keeps, because a device or file system
// does not answer it, does not count ([durable.Dir.Lock]). What may come later (no TPM yet, a
// TPM that hangs, a full disk) does not end the start: the status says what is missing, requests
// that need it are refused with the same reason, and the agent keeps trying. So a machine
// without a TPM or report device has a running agent that says so, and no crash loop.
//
// # Stop and crash
//
// Requests that reached the agent are answered before it ends. Work that does not end in time,
// such as reading a file of a file system that hangs, is left behind: the locks of the folders
// are given up without it. A crash needs no repair: the
// measurement log is complete on disk after every event, the key file and the store replace
// files atomically, and all else is in memory and made again by the next start.
package agent

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"

	"github.com/cvm-agentd/agentd/agent/internal/ledger"
	"github.com/cvm-agentd/agentd/agent/internal/startup"
	"github.com/cvm-agentd/agentd/internal/caller"
	"github.com/cvm-agentd/agentd/internal/config"
	"github.com/cvm-agentd/agentd/internal/durable"
	"github.com/cvm-agentd/agentd/internal/platform"
	"github.com/cvm-agentd/agentd/internal/secret"
	"github.com/cvm-agentd/agentd/internal/tpm"
	"github.com/cvm-agentd/agentd/verify/snp"
)

// LogFile is the name of the measurement log, in the log folder of the configuration.
const LogFile = ledger.LogFile

// Machine is the hardware that the agent runs on, or its double.
type Machine struct {
	OpenTPM      func(ctx context.Context) (*tpm.Device, error)
	OpenPlatform platform.Open
	BootID       string // of the kernel's boot; empty if not known

	// LogEndsWithBoot reports whether a boot empties the log folder, so that a log in it is of
	// this boot. See [ledger.Config.Volatile].
	LogEndsWithBoot func(*durable.Dir) (bool, error)

	// InMemory reports whether a file is in memory, so that no host can change it. Nil asks the
	// kernel for the file system.
	InMemory func(*os.File) (bool, error)

	// IMAList opens the kernel's list of what it measured. Nil: that of this kernel.
	IMAList func() (io.ReadCloser, error)
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
	Callers    func(caller.Kernel) caller.Kernel // wraps what the kernel says of callers; may be nil
	Systemd    func(pid int) error               // says why a process is not systemd's own; nil: by its executable
	Ready      func()                            // called once, after the first attempt to bring everything up; may be nil

	// TestRootsThatVouchForNoHardware are what evidence of a successor is verified by, in an
	// upgrade: for the simulator only. Nil: AMD's.
	TestRootsThatVouchForNoHardware *snp.Roots
}

// Run runs the agent until ctx ends, then answers the requests that have reached it and
// returns. A value on reload, which may be nil, means that declarations and certificates
// are to be read again. An error means that the agent could not be started or served.
func Run(ctx context.Context, o Options, reload <-chan os.Signal) error {
	if err := Check(o.Config, os.Geteuid()); err != nil {
		return err
	}
	useProcessors()
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

// Locked reports whether err, returned by [Run], says that another agent is running: a later
// start succeeds if that one has ended.
func Locked(err error) bool {
	_, locked := errors.AsType[*durable.LockedError](err)
	return locked
}

// Refused reports whether err, returned by [Run] or by reading the configuration, is one
// that a new start does not repair: a person has to change something first.
func Refused(err error) bool {
	if Locked(err) {
		return false
	}
	var r *startup.Refusal
	var c *config.Error
	return errors.As(err, &r) || errors.As(err, &c)
}

// SPDX-License-Identifier: Apache-2.0

// Package config reads the configuration of agentd: one TOML file, strictly, over
// defaults that are complete by themselves. docs/configuration.md describes each key.
package config

import (
	"cmp"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"filippo.io/age"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/apps/declaration"
	"github.com/cvm-agentd/agentd/internal/caller"
	"github.com/cvm-agentd/agentd/internal/platform"
	"github.com/cvm-agentd/agentd/internal/platform/configfs"
	"github.com/cvm-agentd/agentd/internal/stricttoml"
	"github.com/cvm-agentd/agentd/internal/text"
	"github.com/cvm-agentd/agentd/internal/tpm"
	"github.com/cvm-agentd/agentd/internal/tpm/tpmkeys"
	"github.com/cvm-agentd/agentd/internal/unitname"
	"github.com/cvm-agentd/agentd/pcr"
	"github.com/cvm-agentd/agentd/sealing"
)

// File is where agentd looks for its configuration unless told otherwise.
const File = "/etc/agentd/config.toml"

// maxSize is the largest configuration that is read: a real one has a few hundred bytes.
const maxSize = 256 << 10

// Config is the whole configuration. Every key has a default, so that an empty or
// absent file is a complete one; docs/configuration.md describes each.
type Config struct {
	Platform    platform.Name `toml:"platform"` // what the machine is
	Sockets     Sockets       `toml:"sockets"`
	TPM         TPM           `toml:"tpm"`
	Measurement Measurement   `toml:"measurement"`
	Report      Report        `toml:"report"`
	State       State         `toml:"state"`
	Keys        Keys          `toml:"keys"`
	Events      Events        `toml:"events"`
	Processes   Processes     `toml:"processes"`
	Limits      Limits        `toml:"limits"`
}

// Sockets says where the daemon listens. Sockets that systemd passes take precedence.
type Sockets struct {
	Client      string `toml:"client"`       // for programs on the VM, mode 0660
	ClientGroup string `toml:"client_group"` // group of the client socket; empty leaves it as created
	Admin       string `toml:"admin"`        // for root, mode 0600
	Credentials string `toml:"credentials"`  // for systemd, mode 0600; see CredentialsPath
	Gate        string `toml:"gate"`         // for the gate, mode 0600; see GatePath
}

// CredentialsPath returns the path of the socket for credentials: next to the admin socket, unless
// the configuration names another one.
func (s Sockets) CredentialsPath() string {
	if s.Credentials != "" {
		return s.Credentials
	}
	return filepath.Join(filepath.Dir(s.Admin), filepath.Base(unitname.CredentialsSocket))
}

// GatePath returns the path of the socket for the gate: next to the admin socket, unless the
// configuration names another one.
func (s Sockets) GatePath() string {
	return cmp.Or(s.Gate, filepath.Join(filepath.Dir(s.Admin), "gate.sock"))
}

// TPM says which TPM, and what the agent may quote of it.
type TPM struct {
	Device              string           `toml:"device"`                // path, "unix:PATH" or "fd:N"
	Timeout             Duration         `toml:"timeout"`               // for one answer of the TPM
	PCRs                string           `toml:"pcrs"`                  // quoted selection
	OwnerAuthFile       string           `toml:"owner_auth_file"`       // authorization of the owner hierarchy; empty: none is set
	EndorsementAuthFile string           `toml:"endorsement_auth_file"` // authorization of the endorsement hierarchy; empty: none is set
	Ephemeral           bool             `toml:"ephemeral"`             // the TPM is made anew at each boot: a new attestation key each time
	AK                  tpmkeys.AKChoice `toml:"ak"`                    // which key of the TPM signs quotes
}

// Measurement says what is measured, and where it is recorded.
type Measurement struct {
	PCR                uint32   `toml:"pcr"`                      // that applications are measured into
	EventsPCR          uint32   `toml:"events_pcr"`               // of the events that applications have recorded; 0: PCR
	ApplicationFolders []string `toml:"application_folders"`      // a later folder overrides a file of the same name in an earlier one
	LogFolder          string   `toml:"log_folder"`               // must be lost when the machine restarts, and only then
	FirmwareLog        string   `toml:"firmware_log"`             // event log of the firmware, as the kernel gives it; empty: none
	AnswerTimeout      Duration `toml:"answer_timeout"`           // for a file system to answer one call
	Timeout            Duration `toml:"timeout"`                  // for the files of an application to be read
	UnaskedBytes       int      `toml:"unasked_bytes_per_minute"` // of one application that are hashed because it changed
	Containers         string   `toml:"containers"`               // which are measured: DeclaredContainers or AllContainers
}

// Values of measurement.containers.
const (
	DeclaredContainers = "declared" // those of declared images
	AllContainers      = "all"
)

// Report says how reports are obtained.
type Report struct {
	Device            string   `toml:"device"`             // of the SNP guest driver
	ConfigFS          string   `toml:"configfs"`           // the agent's entry of configfs-tsm
	VMPL              uint32   `toml:"vmpl"`               // VM privilege level to ask at
	Spacing           Duration `toml:"spacing"`            // least time between two requests to the firmware
	Timeout           Duration `toml:"timeout"`            // for one report, waiting in the queue included
	CertificateFolder string   `toml:"certificate_folder"` // certificates to staple to evidence
}

// State says where the daemon keeps what outlives a restart of the machine.
type State struct {
	Folder string `toml:"folder"`
}

// Keys says how the secrets of applications are kept.
type Keys struct {
	RecoveryRecipients   []string `toml:"recovery_recipients"`     // age X25519, "age1…"; used when the store is made
	LoseOnHardwareChange bool     `toml:"lose_on_hardware_change"` // accept, without recipients, that another chip loses every secret
	ReleaseKey           string   `toml:"release_key"`             // path of the public key that signs releases; pinned when the store is made
	WithoutDerivedKeys   bool     `toml:"without_derived_keys"`    // accept, if the firmware derives none, that the TPM alone protects them
	WithoutTPM           bool     `toml:"without_tpm"`             // accept, if the TPM is ephemeral, that derived keys alone protect them
	SecretsPerApp        int      `toml:"secrets_per_app"`         // stored at most
	WritesPerMinute      int      `toml:"writes_per_minute"`       // of stored secrets, by one application, after a burst of twice as many
	BytesPerApp          int      `toml:"bytes_per_app"`           // of all stored secrets of an application together
	CertifyApps          []string `toml:"certify_apps"`            // applications that may have keys certified by the AK; none by default
}

// maxCertifyApps is how many applications can be named.
const maxCertifyApps = 64

// checkCertify checks that each is the name of an application, which need not be declared.
func (k *Keys) checkCertify(bad func(key, format string, args ...any)) {
	if len(k.CertifyApps) > maxCertifyApps {
		bad("keys.certify_apps", "%d applications, at most %d", len(k.CertifyApps), maxCertifyApps)
	}
	for _, name := range k.CertifyApps {
		if err := declaration.CheckName(name); err != nil {
			bad("keys.certify_apps", "%v", err)
		}
	}
}

// Events bounds what applications have recorded of themselves in a boot.
type Events struct {
	PerApp      int `toml:"per_app"`       // events of one application
	BytesPerApp int `toml:"bytes_per_app"` // of the log, for the events of one application
	PerMinute   int `toml:"per_minute"`    // by one application, after a burst of as many
}

// Processes says which units may ask who another process is.
type Processes struct {
	Askers []string `toml:"askers"` // system units; none by default
}

// maxAskers is how many units can be named.
const maxAskers = 16

// check checks that each is the name of one unit that processes can run in.
func (p *Processes) check(bad func(key, format string, args ...any)) {
	if len(p.Askers) > maxAskers {
		bad("processes.askers", "%d units, at most %d", len(p.Askers), maxAskers)
	}
	for _, u := range p.Askers {
		if _, err := unitname.Running(u); err != nil {
			bad("processes.askers", "%+q is not a system unit that processes run in, such as \"spire-agent.service\"", u)
		} else if why := caller.Passing(u); why != "" {
			bad("processes.askers", "%+q: %s", u, why)
		}
	}
}

// Limits bounds what callers can make the daemon keep and do.
type Limits struct {
	Connections                 int `toml:"connections"`                     // open at once on the client socket
	ConnectionsPerUser          int `toml:"connections_per_user"`            // of these, by one uid
	ConnectionsPerSecondPerUser int `toml:"connections_per_second_per_user"` // that one uid opens
	Requests                    int `toml:"requests"`                        // being answered at once
	RequestsPerUser             int `toml:"requests_per_user"`               // of these, of one uid
	RequestsPerSecondPerUser    int `toml:"requests_per_second_per_user"`    // of one uid
	WaitingPerUser              int `toml:"waiting_per_user"`                // requests of one uid that wait for their turn
	AnswerBytes                 int `toml:"answer_bytes"`                    // of answers that are being made or sent
	AnswerBytesPerUser          int `toml:"answer_bytes_per_user"`           // of these, for one uid
	BodyBytes                   int `toml:"body_bytes"`                      // of requests above 4 KiB that are being read or answered
	HashingWorkers              int `toml:"hashing_workers"`                 // files of applications that are hashed at once; 0: one for each processor
	LogBytes                    int `toml:"log_bytes"`                       // of the measurement log, after which it is full
}

// Duration is a time span in Go's notation, "2s" or "1m30s".
type Duration time.Duration

// UnmarshalText reads the notation of [time.ParseDuration].
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	if err != nil {
		return fmt.Errorf("%q is not a time span: write it like \"2s\" or \"1m30s\"", b)
	}
	*d = Duration(v)
	return nil
}

// MarshalText writes what UnmarshalText reads.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// Default returns the values of keys that are not set.
func Default() Config {
	return Config{
		Platform: platform.Auto,
		Sockets:  Sockets{Client: api.Socket, ClientGroup: "agentd-clients", Admin: api.AdminSocket},
		TPM: TPM{
			Device:  "/dev/tpmrm0",
			Timeout: Duration(10 * time.Second),
			PCRs:    "sha256:0-15",
			AK:      tpmkeys.AKAuto,
		},
		Measurement: Measurement{
			PCR:                13,
			ApplicationFolders: []string{"/usr/lib/agentd/apps.d", "/etc/agentd/apps.d"},
			LogFolder:          "/run/log/agentd",
			FirmwareLog:        "/sys/kernel/security/tpm0/binary_bios_measurements",
			AnswerTimeout:      Duration(30 * time.Second),
			Timeout:            Duration(10 * time.Minute),
			UnaskedBytes:       1 << 30,
			Containers:         DeclaredContainers,
		},
		Report: Report{
			Device:            "/dev/sev-guest",
			ConfigFS:          configfs.Entry,
			Spacing:           Duration(2 * time.Second),
			Timeout:           Duration(65 * time.Second), // hosts have been seen to delay a report for 62 s
			CertificateFolder: "/etc/agentd/certs",
		},
		State:  State{Folder: "/var/lib/agentd"},
		Keys:   Keys{SecretsPerApp: 64, WritesPerMinute: 60, BytesPerApp: 1 << 20},
		Events: Events{PerApp: 4096, BytesPerApp: 1 << 20, PerMinute: 120},
		Limits: Limits{
			Connections: 2048, ConnectionsPerUser: 1024, ConnectionsPerSecondPerUser: 1000,
			Requests: 1024, RequestsPerUser: 512, RequestsPerSecondPerUser: 5000, WaitingPerUser: 256,
			AnswerBytes: 256 << 20, AnswerBytesPerUser: 128 << 20, BodyBytes: 32 << 20,
			LogBytes: evidence.MaxLog,
		},
	}
}

// An Error is a fault of a configuration file.
type Error struct {
	File string
	Err  error // usually a *stricttoml.Error, with line, column and key
}

func (e *Error) Error() string {
	if at, ok := errors.AsType[*stricttoml.Error](e.Err); ok {
		return at.In(e.File)
	}
	return e.File + ": " + e.Err.Error()
}

func (e *Error) Unwrap() error { return e.Err }

// Parse decodes b over defaults and checks every value. Name stands for the
// file in errors, which are all of type *Error, joined.
func Parse(name string, b []byte, defaults Config) (Config, error) {
	c := defaults
	c.Measurement.ApplicationFolders = slices.Clone(defaults.Measurement.ApplicationFolders)
	c.Processes.Askers = slices.Clone(defaults.Processes.Askers)
	c.Keys.RecoveryRecipients = slices.Clone(defaults.Keys.RecoveryRecipients)
	c.Keys.CertifyApps = slices.Clone(defaults.Keys.CertifyApps)
	places, err := stricttoml.Decode(b, maxSize, &c)
	if err != nil {
		return Config{}, &Error{File: name, Err: err}
	}
	if err := c.check(name, places); err != nil {
		return Config{}, err
	}
	return c, nil
}

// check reports every value that cannot be used.
func (c *Config) check(name string, places *stricttoml.Places) error {
	var errs []error
	bad := func(key, format string, args ...any) {
		errs = append(errs, &Error{File: name, Err: places.Errorf(key, format, args...)})
	}
	between := func(key string, d Duration, low, high time.Duration) {
		if time.Duration(d) < low || time.Duration(d) > high {
			bad(key, "%v is not within %v to %v", time.Duration(d), low, high)
		}
	}
	number := func(key string, n, low, high int) {
		if n < low || n > high {
			bad(key, "%d is not within %d to %d", n, low, high)
		}
	}

	if !c.Platform.Known() {
		bad("platform", "%+q is not a platform: want one of %q", c.Platform, platform.Names())
	}
	c.checkPaths(bad)
	if !text.Shown(c.Sockets.ClientGroup) {
		bad("sockets.client_group", "%+q is not the name of a group", c.Sockets.ClientGroup)
	}
	if err := tpm.CheckAddress(c.TPM.Device); err != nil {
		bad("tpm.device", "%v", err)
	}
	if !c.TPM.AK.Known() {
		bad("tpm.ak", "%+q is not an attestation key: want one of %q", c.TPM.AK, tpmkeys.AKChoices())
	}
	between("tpm.timeout", c.TPM.Timeout, 100*time.Millisecond, 10*time.Minute)
	c.checkPCRs(bad)
	if len(c.Measurement.ApplicationFolders) == 0 {
		bad("measurement.application_folders", "is empty: name at least one folder")
	}
	between("measurement.answer_timeout", c.Measurement.AnswerTimeout, time.Second, 10*time.Minute)
	between("measurement.timeout", c.Measurement.Timeout, 10*time.Second, 24*time.Hour)
	number("measurement.unasked_bytes_per_minute", c.Measurement.UnaskedBytes, 1<<20, 1<<40)
	if m := c.Measurement.Containers; m != DeclaredContainers && m != AllContainers {
		bad("measurement.containers", "%+q is neither %q nor %q", m, DeclaredContainers, AllContainers)
	}
	number("report.vmpl", int(c.Report.VMPL), 0, 3)
	between("report.spacing", c.Report.Spacing, 0, time.Minute)
	between("report.timeout", c.Report.Timeout, time.Second, 10*time.Minute)
	if len(c.Keys.RecoveryRecipients) > sealing.MaxRecipients {
		bad("keys.recovery_recipients", "%d recipients, at most %d", len(c.Keys.RecoveryRecipients), sealing.MaxRecipients)
	}
	for i, r := range c.Keys.RecoveryRecipients {
		if _, err := age.ParseX25519Recipient(r); err != nil {
			// The text is not repeated: it may be an identity, which is a secret.
			bad("keys.recovery_recipients", "number %d is not an age X25519 recipient (age1…): age-keygen -y prints that of an identity", i+1)
		}
	}
	if k := c.Keys.ReleaseKey; k != "" && !filepath.IsAbs(k) {
		bad("keys.release_key", "%+q is not an absolute path", k)
	}
	c.Keys.checkCertify(bad)
	c.checkEphemeral(bad)
	number("keys.secrets_per_app", c.Keys.SecretsPerApp, 1, sealing.MaxEntries)
	number("keys.writes_per_minute", c.Keys.WritesPerMinute, 1, 1<<16)
	number("keys.bytes_per_app", c.Keys.BytesPerApp, 1, 1<<30)
	number("events.per_app", c.Events.PerApp, 1, 1<<16)
	number("events.bytes_per_app", c.Events.BytesPerApp, 4<<10, evidence.MaxLog)
	number("events.per_minute", c.Events.PerMinute, 1, 1<<16)
	c.Processes.check(bad)
	c.Limits.check(number, bad)
	return errors.Join(errs...)
}

// check checks that each limit leaves room for what it bounds.
func (l *Limits) check(number func(key string, n, low, high int), bad func(key, format string, args ...any)) {
	// share checks the part of one user. A file that lowers the whole alone leaves the part
	// at its default: so the message names the whole.
	share := func(key string, n, low int, whole string, all int) {
		if n > all {
			bad(key, "%d is more than limits.%s, which is %d: lower it too", n, whole, all)
			return
		}
		number(key, n, low, all)
	}
	number("limits.connections", l.Connections, 1, 1<<16)
	share("limits.connections_per_user", l.ConnectionsPerUser, 1, "connections", l.Connections)
	number("limits.connections_per_second_per_user", l.ConnectionsPerSecondPerUser, 1, 1<<20)
	number("limits.requests", l.Requests, 1, 1<<16)
	share("limits.requests_per_user", l.RequestsPerUser, 1, "requests", l.Requests)
	number("limits.requests_per_second_per_user", l.RequestsPerSecondPerUser, 1, 1<<20)
	number("limits.waiting_per_user", l.WaitingPerUser, 1, 1<<16)
	number("limits.log_bytes", l.LogBytes, 64<<10, evidence.MaxLog)
	// An answer with the whole log needs its bytes four times.
	number("limits.answer_bytes", l.AnswerBytes, 4*l.LogBytes, 1<<34)
	share("limits.answer_bytes_per_user", l.AnswerBytesPerUser, min(4*l.LogBytes, l.AnswerBytes), "answer_bytes", l.AnswerBytes)
	number("limits.body_bytes", l.BodyBytes, 1<<20, 1<<30)
	number("limits.hashing_workers", l.HashingWorkers, 0, 1<<10)
}

// checkPCRs checks the PCR of the log, and that it is quoted.
func (c *Config) checkPCRs(bad func(key, format string, args ...any)) {
	n := c.Measurement.PCR
	switch {
	case n >= pcr.Count:
		bad("measurement.pcr", "%d is not a PCR: want 0 to 15", n)
	case n == 16 || n == 23: // as [registers.CheckIndex] finds when it asks the TPM
		bad("measurement.pcr", "PCR %d cannot have the measurement log, since any program can reset it: want 0 to 15", n)
	case n > 16:
		bad("measurement.pcr", "PCR %d cannot have the measurement log, since the agent cannot extend it: want 0 to 15", n)
	}
	s, err := pcr.ParseSelection(c.TPM.PCRs)
	switch {
	case err != nil:
		bad("tpm.pcrs", "%v", err)
	case n < 16 && !slices.ContainsFunc(s, func(b pcr.BankSelection) bool { return slices.Contains(b.PCRs, n) }):
		bad("tpm.pcrs", "%q leaves out PCR %d, into which applications are measured (measurement.pcr)", c.TPM.PCRs, n)
	case c.Measurement.EventsPCR != 0:
		c.checkEventsPCR(s, bad)
	}
}

// checkEventsPCR checks the PCR of events of applications. What else extends a PCR while the
// machine runs would make the log unusable.
func (c *Config) checkEventsPCR(s pcr.Selection, bad func(key, format string, args ...any)) {
	n := c.Measurement.EventsPCR
	extends := map[uint32]string{11: "the phases of the boot, when it starts and when it stops", 15: "the identity of the machine and of its volumes, also of those that are opened later"}
	strong := func(b pcr.BankSelection) bool { return b.Algorithm != pcr.SHA1 && slices.Contains(b.PCRs, n) }
	switch err := pcr.CheckEventsPCR(n, c.Measurement.PCR); {
	case err != nil:
		bad("measurement.events_pcr", "%v: want 8, 9, 12, 13 or 14, and not measurement.pcr", err)
	case extends[n] != "":
		bad("measurement.events_pcr", "systemd extends PCR %d by %s: want 8, 9, 12, 13 or 14, and not measurement.pcr", n, extends[n])
	case !slices.ContainsFunc(s, strong):
		bad("tpm.pcrs", "%q leaves out PCR %d in a bank of SHA-256 or stronger, and it has the events of applications (measurement.events_pcr)", c.TPM.PCRs, n)
	}
}

// checkEphemeral checks what a TPM that is made anew at each boot allows.
func (c *Config) checkEphemeral(bad func(key, format string, args ...any)) {
	switch {
	case c.TPM.Ephemeral && c.Keys.WithoutDerivedKeys:
		bad("keys.without_derived_keys", "leaves only the TPM to protect sealed blobs, and tpm.ephemeral says that it is lost at each boot: remove one of the two")
	case c.Keys.WithoutTPM && !c.TPM.Ephemeral:
		bad("keys.without_tpm", "is for a TPM that is made anew at each boot: set tpm.ephemeral too, or remove it")
	}
}

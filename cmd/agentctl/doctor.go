// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/config"
	"github.com/cvm-agentd/agentd/internal/version"
)

const doctorUsage = `Usage: agentctl doctor [--config FILE] [--json]

Look for what prevents good evidence from this machine, and say what to do. The
command changes nothing. It asks for evidence once. As root it sees more, and tries
out the keys that the firmware derives.

  --config FILE    configuration of the agent (default /etc/agentd/config.toml)

Exit codes: 0 nothing is wrong, 1 something is wrong, 6 the agent does not answer.

Examples:
  agentctl doctor
`

// deviceTime is how long the doctor waits for an answer that needs a device. It is more
// than the slowest take, even if reports are throttled for a minute.
const deviceTime = 5 * time.Minute

// symptom is the result of one check.
type symptom struct {
	What string `json:"what"`
	OK   bool   `json:"ok"`
	Note bool   `json:"note,omitzero"`  // worth knowing, but not wrong
	Says string `json:"says"`           // finding
	Todo string `json:"todo,omitempty"` // what to do
}

// doctor collects symptoms.
type doctor struct {
	sockets  *sockets
	symptoms []symptom
	silent   bool // the agent does not answer
}

func (d *doctor) good(what, format string, args ...any) {
	d.symptoms = append(d.symptoms, symptom{What: what, OK: true, Says: fmt.Sprintf(format, args...)})
}

func (d *doctor) note(what, todo, format string, args ...any) {
	d.symptoms = append(d.symptoms, symptom{What: what, OK: true, Note: true, Todo: here(todo), Says: fmt.Sprintf(format, args...)})
}

func (d *doctor) bad(what, todo, format string, args ...any) {
	d.symptoms = append(d.symptoms, symptom{What: what, Todo: here(todo), Says: fmt.Sprintf(format, args...)})
}

func doctorCommand(t *terminal, s *sockets) *cobra.Command {
	var file string
	c := command("doctor", doctorUsage, arguments(), func(c *cobra.Command, _ []string) error {
		d := &doctor{sockets: s}
		d.lookAtAgent(c.Context(), d.lookAtMachine(file))
		return t.finishDoctor(d)
	})
	c.Flags().StringVar(&file, "config", config.File, "")
	return c
}

func (t *terminal) finishDoctor(d *doctor) error {
	if t.json {
		if err := t.writeJSON(d.symptoms); err != nil {
			return err
		}
	} else {
		for _, s := range d.symptoms {
			mark := "ok  "
			switch {
			case !s.OK:
				mark = "BAD "
			case s.Note:
				mark = "note"
			}
			fmt.Fprintf(t.out, "%s  %-14s %s\n", mark, s.What, cleanLine(s.Says))
			if s.Todo != "" {
				fmt.Fprintf(t.out, "%21sdo: %s\n", "", cleanLine(s.Todo))
			}
		}
	}
	switch {
	case d.silent:
		return &exitError{code: exitUnavailable}
	case slices.ContainsFunc(d.symptoms, func(s symptom) bool { return !s.OK }):
		return &exitError{code: exitMisuse}
	}
	return nil
}

// lookAtMachine checks what can be seen without the agent, and returns the configuration.
func (d *doctor) lookAtMachine(file string) config.Config {
	var name unix.Utsname
	if err := unix.Uname(&name); err == nil {
		d.good("kernel", "Linux %s", unix.ByteSliceToString(name.Release[:]))
	}
	c, text, err := config.Load(file, config.Default())
	switch {
	case errors.Is(err, fs.ErrPermission):
		d.note("configuration", "run the doctor as root", "%s cannot be read by this user", file)
		c = config.Default()
	case err != nil:
		d.bad("configuration", "correct the file: the agent does not start with it", "%v", err)
		c = config.Default()
	case text == nil:
		d.good("configuration", "%s does not exist: the defaults apply", file)
	default:
		d.good("configuration", "%s is valid", file)
	}
	for _, device := range []struct{ what, path, todo string }{
		{"TPM", c.TPM.Device, "give the machine a vTPM and load its driver (modprobe tpm_crb, tpm_tis or tpm_svsm)"},
		{"report device", c.Report.Device, "run on an SEV-SNP host and load the driver: modprobe sev-guest"},
	} {
		if device.path == "" || device.path[0] != '/' {
			d.note(device.what, "", "%s is not a device file", device.path)
		} else if _, err := os.Stat(device.path); err != nil {
			d.note(device.what, device.todo, "%v; the agent may run elsewhere", err)
		} else {
			d.good(device.what, "%s exists", device.path)
		}
	}
	d.lookAtLocks(c.State.Folder, c.Measurement.LogFolder)
	return c
}

// lookAtAgent asks the agent.
func (d *doctor) lookAtAgent(ctx context.Context, c config.Config) {
	agent := d.sockets.clientSocket()
	st, err := soon(ctx, agent.Status)
	if err != nil {
		d.silent = true
		x := failed(err)
		d.bad("agent", x.hint, "%v", err)
		d.lookAtTPMAlone(ctx, c.TPM)
		return
	}
	d.good("agent", "agentd %s answers", st.Version)
	if st.Version != version.Version {
		d.note("version", "", "this agentctl is %s", version.Version)
	}
	if self, err := soon(ctx, agent.Self); err == nil && self.Method == evidence.MethodStartTime {
		d.note("kernel", "use Linux 6.5 or later", "the kernel has no SO_PEERPIDFD: the agent recognises callers by their start times, and evidence says so")
	}
	d.lookAtStatus(st)
	d.lookAtTPM(ctx)
	if st.TPM.State != api.StateOK {
		d.note("evidence", "", "not asked for, and keys not checked: both need the TPM")
		return
	}
	d.lookAtStart(ctx, c.Measurement.FirmwareLog)
	d.lookAtEvidence(ctx)
	d.lookAtKeys(ctx, &st.Keys)
}

// lookAtKeys checks the store of sealed blobs. If the admin socket is available, it also
// tries out the key derivation: that it works, is stable, and depends on each value that
// a guest may choose. If a guest cannot vary a value, the finding says so.
func (d *doctor) lookAtKeys(ctx context.Context, k *api.KeyStatus) {
	switch {
	case k.State == api.StateOK:
		d.good("sealed blobs", "%s", keyLine(k))
		d.good("store key", "%s: recovery on other hardware needs it, kept with the recovery identity", k.StoreKey)
	case k.Code == api.CodeNoRecovery, k.State == api.StateAbsent:
		d.note("sealed blobs", k.Code.Info().Hint, "applications get no keys: %s", k.Reason)
	default:
		d.bad("sealed blobs", k.Code.Info().Hint, "%s", k.Reason)
	}
	if k.Rewrap {
		d.note("sealed blobs", "agentctl key rewrap", "some are sealed to an older TCB or another kind of slot")
	}
	if k.Unproven > 0 {
		d.note("sealed blobs", "replace what these blobs contain: `agentctl key list` names them", "%s recovered although nothing told who wrote them", count(k.Unproven, "blob"))
	}
	ctx, cancel := context.WithTimeout(ctx, deviceTime)
	defer cancel()
	probed, err := d.sockets.adminSocket().Probe(ctx)
	switch {
	case errors.Is(err, fs.ErrPermission), errors.Is(err, api.CodeNotPermitted):
		d.note("derived keys", "run the doctor as root", "not tried out: the admin socket is for root")
		return
	case err != nil:
		d.note("derived keys", failed(err).hint, "%v", err)
		return
	}
	for _, f := range probed.Findings {
		if f.OK {
			d.good("derived keys", "%s: %s", f.Name, f.Text)
		} else {
			d.bad("derived keys", "the platform's firmware or host does not do what sealing needs", "%s: %s", f.Name, f.Text)
		}
	}
}

func (d *doctor) lookAtStatus(st *api.Status) {
	if st.TPM.State == api.StateOK {
		d.good("agent's TPM", "works")
	} else {
		todo := "check that the device exists and answers (`journalctl -u agentd -p warning`); the agent keeps trying"
		if hint := st.TPM.Code.Info().Hint; hint != "" {
			todo = hint
		}
		d.bad("agent's TPM", todo, "%s: %s", st.TPM.State, st.TPM.Reason)
	}
	switch {
	case st.Platform.State == api.StateAbsent:
		d.bad("agent's reports", api.CodePlatformAbsent.Info().Hint, "%s", st.Platform.Reason)
	case st.Platform.State == api.StateDegraded:
		d.bad("agent's reports", "see the reason", "%s", st.Platform.Reason)
	}
	switch {
	case st.TPM.State != api.StateOK:
		d.note("log", "", "not compared with its PCR: %s", st.Ledger.Reason)
	case st.Ledger.Reason == api.ReasonStarting:
		d.note("log", "ask again: `agentctl status --wait 1m`", "the agent is starting")
	case !st.Ledger.Synchronised:
		d.bad("log", api.CodeDesynchronised.Info().Hint, "measurement log and PCR %d do not explain each other: %s", st.Ledger.PCR, st.Ledger.Reason)
	case st.Ledger.Full:
		d.bad("log", api.CodeLogFull.Info().Hint, "the measurement log is full")
	case st.Ledger.Reason != "":
		d.bad("log", "see the reason", "%s", st.Ledger.Reason)
	default:
		d.good("log", "%d records, PCR %d matches", st.Ledger.Records, st.Ledger.PCR)
	}
	switch {
	case st.Apps.Unmeasured > 0:
		d.bad("applications", "`agentctl app list` has the reasons", "%d of %d are not measured", st.Apps.Unmeasured, st.Apps.Declared)
	case st.Apps.Declared == 0:
		d.note("applications", "declare some in /etc/agentd/apps.d (docs/apps.md)", "no application is declared")
	default:
		d.good("applications", "%d declared, all measured", st.Apps.Declared)
	}
	if n := st.Apps.InterpreterOnly; n > 0 {
		d.note("programs of applications", "declare what the interpreters run: `agentctl app list` names them (docs/apps.md)", "%d of %d measured applications are interpreter only", n, st.Apps.Measured)
	}
}

// lookAtEvidence asks for evidence once and checks for what a verifier would miss.
func (d *doctor) lookAtEvidence(ctx context.Context) {
	nonce := make([]byte, 32)
	rand.Read(nonce)
	ctx, cancel := context.WithTimeout(ctx, deviceTime)
	defer cancel()
	document, err := d.sockets.clientSocket().Evidence(ctx, api.EvidenceRequest{Nonce: nonce, Freshness: evidence.Anchored, Log: api.LogNone})
	if err != nil {
		d.bad("evidence", failed(err).hint, "%v", err)
		return
	}
	e, err := evidence.Parse(document)
	if err != nil {
		d.bad("evidence", "install the same version of agentctl and agentd", "%v", err)
		return
	}
	d.good("evidence", "%d bytes without the log", len(document))
	if len(e.Certificates) == 0 {
		d.bad("certificates", "put the VCEK or VLEK certificate and its issuers into /etc/agentd/certs",
			"evidence has none: the host's table is empty and nothing is stapled; verifiers have to fetch them")
		return
	}
	d.good("certificates", "evidence has %d", len(e.Certificates))
}

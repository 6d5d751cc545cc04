// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/config"
	"github.com/cvm-agentd/agentd/internal/platform"
	"github.com/cvm-agentd/agentd/internal/platform/configfs"
	"github.com/cvm-agentd/agentd/internal/tcglog"
	"github.com/cvm-agentd/agentd/internal/text"
	"github.com/cvm-agentd/agentd/internal/version"
)

// lookAtConfiguration says what `agentd --check` says, and returns the configuration, or the
// defaults if that cannot be read. The agent does not start with a file that was named to it and
// is missing.
func (d *doctor) lookAtConfiguration(file string, named bool) config.Config {
	const name, asRoot, correct = "configuration", "run the doctor as root", "correct the file: the agent does not start with it"
	c, text, err := config.Load(file, config.Default())
	switch {
	case errors.Is(err, fs.ErrPermission):
		d.note(name, asRoot, "%s cannot be read by this user", file)
	case err != nil:
		d.bad(name, correct, "%v", err)
	case text == nil && named:
		d.bad(name, "name the file that the agent reads, or leave --config out", "%s does not exist", file)
	}
	if err != nil || text == nil && named {
		return config.Default()
	}
	valid := file + " is valid"
	if text == nil {
		valid = file + " does not exist: the defaults apply"
	}
	asked := cmp.Or(d.sockets.client, os.Getenv(api.SocketEnv), api.Socket)
	if !named && asked != c.Sockets.Client {
		d.good(name, "%s, and the agent that is asked, at %s, has another", valid, asked)
		return c
	}
	switch err := c.CheckMachine(c.AgentUID()); {
	case errors.Is(err, fs.ErrPermission):
		d.note(name, asRoot, "%s, and this user cannot see whether it fits this machine: %v", valid, err)
	case err != nil:
		d.bad(name, "correct the file or the machine: the agent does not start", "%s, but does not fit this machine: %v", valid, err)
	default:
		d.good(name, "%s", valid)
	}
	return c
}

// lookAtMachine checks what can be seen without the agent, and returns the configuration.
func (d *doctor) lookAtMachine(file string, named bool) config.Config {
	var name unix.Utsname
	if err := unix.Uname(&name); err == nil {
		d.good("kernel", "Linux %s", unix.ByteSliceToString(name.Release[:]))
	}
	c := d.lookAtConfiguration(file, named)
	for _, device := range []struct{ what, path, todo string }{
		{deviceOfTPM, c.TPM.Device, "give the machine a vTPM and load its driver (modprobe tpm_crb, tpm_tis or tpm_svsm)"},
		{deviceOfReports, c.Report.Device, "run on an SEV-SNP host and load the driver: modprobe sev-guest"},
	} {
		if device.path == "" || device.path[0] != '/' {
			d.note(device.what, "", "%s is not a device file", device.path)
		} else if _, err := os.Stat(device.path); err != nil {
			d.note(device.what, device.todo, "%v"+elsewhere, err)
			d.absent[device.what] = device.path
		} else {
			d.good(device.what, "%s exists", device.path)
		}
	}
	d.lookAtEntry(c.Report.ConfigFS)
	d.lookAtLocks(c.State.Folder, c.Measurement.LogFolder)
	return c
}

// lookAtEntry checks the agent's entry of configfs-tsm, if the kernel has that.
func (d *doctor) lookAtEntry(path string) {
	const name = "configfs entry"
	if _, err := os.Stat(path); err == nil {
		d.good(name, "%s exists", path)
	} else if _, err := os.Stat(filepath.Dir(path)); err == nil {
		d.note(name, "`systemctl restart agentd-configfs.service`; its log says what is missing", "the kernel has configfs-tsm, and %s does not exist", path)
	}
}

// lookAtWay says if the agent chose its way to reports before the entry of configfs-tsm was there:
// it chooses once, at its start. Above an SVSM the binding is weaker then.
func (d *doctor) lookAtWay(c *config.Config, p *api.PlatformStatus) {
	const name, restart = "way to reports", "`systemctl restart agentd.service`"
	if c.Platform != platform.Auto || p.Source != string(platform.SourceSEVGuest) {
		return
	}
	if configfs.CheckProvider(configfs.Dir(c.Report.ConfigFS)) != nil {
		return
	}
	if above, err := configfs.Dir(c.Report.ConfigFS).Has(configfs.ServiceProvider); err == nil && above {
		d.warn(name, restart, "the guest runs above an SVSM, and the agent chose its way to reports before %s was there: evidence is guest-asserted at most", c.Report.ConfigFS)
		return
	}
	d.note(name, restart, "the agent chose the device before %s was there; evidence is the same by either way", c.Report.ConfigFS)
}

// lookAtAgent asks the agent.
func (d *doctor) lookAtAgent(ctx context.Context, c config.Config) {
	agent := d.sockets.clientSocket()
	st, err := soon(ctx, agent.StatusNow)
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
		d.note("kernel: callers", "use Linux 6.5 or later", "the kernel has no SO_PEERPIDFD: the agent recognises callers by their start times, and evidence says so")
	}
	d.lookAtTPM(ctx)
	d.lookAtStatus(st)
	d.lookAtWay(&c, &st.Platform)
	d.lookAtEvidence(ctx, &st.Evidence, platform.Machine(st.Platform.Machine))
	if st.TPM.State == api.StateOK && st.Ledger.Reason != api.ReasonStarting {
		d.lookAtStart(ctx, c.Measurement.FirmwareLog)
	}
	d.lookAtKeys(ctx, &st.Keys)
	d.lookAtDisks(ctx)
	d.lookAtCredentials(ctx, "/", &c)
	d.lookAtGate("/", st.Gate)
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
	d.follows("sealed blobs", agentsTPM, agentsReports, "evidence")
	if k.Rewrap {
		d.note("sealed blobs: age", "`agentctl key rewrap`", "some are sealed to an older TCB or another kind of slot")
	}
	if k.Unproven > 0 {
		d.warn("sealed blobs: writers", "replace what these blobs contain: `agentctl key list` names them", "%s recovered although nothing told who wrote them", count(k.Unproven, "blob"))
	}
	d.lookAtUpgrade(ctx, k.State == api.StateOK)
	ctx, cancel := context.WithTimeout(ctx, deviceTime)
	defer cancel()
	probed, err := d.sockets.adminSocket().Probe(ctx)
	switch {
	case errors.Is(err, fs.ErrPermission), errors.Is(err, api.CodeNotPermitted):
		d.note("derived keys", "run the doctor as root", "not tried out: the admin socket is for root")
		return
	case errors.Is(err, api.CodeNoUsableSlot) && k.State == api.StateAbsent: // there never was a store
		d.note("derived keys", "", "the platform derives none, and the TPM alone is not accepted to protect sealed blobs (keys.without_derived_keys)")
		return
	case err != nil:
		d.note("derived keys", failed(err).hint, "not tried out: %v", err)
		d.follows("derived keys", agentsReports, agentsTPM)
		return
	}
	for _, f := range probed.Findings {
		if f.OK {
			d.good("derived keys: "+f.Name, "%s", f.Text)
		} else {
			d.bad("derived keys: "+f.Name, "the platform's firmware or host does not do what sealing needs", "%s", f.Text)
		}
	}
}

// lookAtStatus shows what the agent says of its parts, causes before what follows from them.
func (d *doctor) lookAtStatus(st *api.Status) {
	if st.TPM.State == api.StateOK {
		d.good(agentsTPM, "works")
	} else {
		todo := "check that the device exists and answers (`journalctl -u agentd -p warning`); the agent keeps trying"
		if hint := st.TPM.Code.Info().Hint; hint != "" {
			todo = hint
		}
		d.bad(agentsTPM, todo, "%s: %s", st.TPM.State, st.TPM.Reason)
		d.explainByDevice(agentsTPM, deviceOfTPM, st.TPM.Reason)
		if !d.follows(agentsTPM, d.badTrials()...) {
			d.follows(tried, agentsTPM)
		}
	}
	if line := machineLine(&st.Platform); line != "" {
		d.good("platform", "%s", line)
		if x := d.find(deviceOfReports); x != nil && x.Level == levelNote && st.Platform.Source != string(platform.SourceSEVGuest) {
			x.Says, x.Todo = strings.TrimSuffix(x.Says, elsewhere)+"; reports come by "+st.Platform.Source, ""
		}
	}
	switch st.Platform.State {
	case api.StateUnknown:
		d.note(agentsReports, "", "%s", st.Platform.Reason)
		d.follows(agentsReports, agentsTPM)
	case api.StateAbsent:
		d.bad(agentsReports, api.CodePlatformAbsent.Info().Hint, "%s", st.Platform.Reason)
		d.explainByDevice(agentsReports, deviceOfReports, st.Platform.Reason)
	case api.StateDegraded:
		todo := st.Evidence.Code.Info().Hint // of the report that failed, if nothing failed before
		if !strings.HasPrefix(string(st.Evidence.Code), "platform-") {
			todo = "the agent asks again; `journalctl -u agentd -p warning` has more"
		}
		d.bad(agentsReports, todo, "%s", st.Platform.Reason)
	}
	d.lookAtLog(st)
	switch {
	case st.Apps.Unmeasured > 0:
		d.bad("applications", "`agentctl app list` has the reasons", "%d of %d are not measured", st.Apps.Unmeasured, st.Apps.Declared)
		d.follows("applications", agentsTPM, agentsLog)
	case st.Apps.Declared == 0:
		d.note("applications", "declare some in /etc/agentd/apps.d (docs/apps.md)", "no application is declared")
	default:
		d.good("applications", "%d declared, all measured", st.Apps.Declared)
	}
	if n := st.Apps.InterpreterOnly; n > 0 {
		d.note("programs of applications", "declare what the interpreters run: `agentctl app list` names them (docs/apps.md)", "%d of %d measured applications are interpreter only", n, st.Apps.Measured)
	}
	if w := st.Watch; w.State == api.StateDegraded && w.Reason != api.ReasonStarting {
		d.warn("watching", "free what the reason names; until then the agent looks at every file each 30 s", "changes of files are not noticed as they happen: %s", w.Reason)
	}
}

// explainByDevice makes a device that does not exist the cause of what the agent lacks, if that
// is what the agent says.
func (d *doctor) explainByDevice(name, device, reason string) {
	x := d.find(device)
	if x == nil || x.Level != levelNote || d.absent[device] == "" || !strings.Contains(reason, d.absent[device]) {
		return
	}
	x.Level, x.Says = levelBad, strings.TrimSuffix(x.Says, elsewhere)
	d.follows(name, device)
}

// badTrials returns the names of what the TPM was found not to do.
func (d *doctor) badTrials() (names []string) {
	for _, f := range d.symptoms {
		if f.Level == levelBad && strings.HasPrefix(f.Name, tried+": ") {
			names = append(names, f.Name)
		}
	}
	return names
}

// elsewhere is said of a device that does not exist, as long as the agent has one.
const elsewhere = "; the agent may run elsewhere"

// nearlyFull is the part of the log, in percent, from which its size is a warning.
const nearlyFull = 80

func (d *doctor) lookAtLog(st *api.Status) {
	l := &st.Ledger
	switch {
	case l.Reason == api.ReasonStarting && st.TPM.State == api.StateOK:
		d.note(agentsLog, "ask again: `agentctl status --wait 1m`", "the agent is starting")
	case st.TPM.State != api.StateOK:
		d.note(agentsLog, "", "not compared with its PCR: %s", l.Reason)
		d.follows(agentsLog, agentsTPM)
	case !l.Synchronised:
		d.bad(agentsLog, api.CodeDesynchronised.Info().Hint, "measurement log and PCR %s do not explain each other: %s", pcrsText(l), l.Reason)
	case l.Full:
		d.bad(agentsLog, api.CodeLogFull.Info().Hint, "the measurement log is full")
	case l.Reason != "":
		d.bad(agentsLog, cmp.Or(st.Evidence.Code.Info().Hint, "see the reason"), "%s", l.Reason)
	case percent(l.Bytes, l.Limit) >= nearlyFull:
		d.warn(agentsLog, "find out which application changes all the time, with `agentctl log`, and plan a reboot, which begins a new log", "%s, and %s full", text.Count(l.Records, "record"), fullness(l))
	case l.Pending != "":
		d.note(agentsLog, "reboot when it suits, or set measurement.events_pcr back", "%s", l.Pending)
	default:
		d.good(agentsLog, "%s, PCR %s %s%s", text.Count(l.Records, "record"), pcrsText(l), map[bool]string{false: "matches", true: "match"}[l.EventsPCR != 0], prefixed(", ", fullness(l), " full"))
	}
}

// pcrsText names the PCRs of the log.
func pcrsText(l *api.LedgerStatus) string {
	if l.EventsPCR == 0 {
		return fmt.Sprint(l.PCR)
	}
	return fmt.Sprintf("%d and, for events of apps, %d", l.PCR, l.EventsPCR)
}

// lookAtEvidence asks for evidence once, if the agent says that it can make some, and checks for
// what a verifier would miss.
func (d *doctor) lookAtEvidence(ctx context.Context, st *api.EvidenceStatus, is platform.Machine) {
	if !st.Ready {
		d.bad("evidence", st.Code.Info().Hint, "%s: %s", cmp.Or(string(st.Code), "not ready"), st.Reason)
		d.follows("evidence", d.causesOf(st.Code)...)
		return
	}
	nonce := make([]byte, 32)
	rand.Read(nonce)
	ctx, cancel := context.WithTimeout(ctx, deviceTime)
	defer cancel()
	document, err := d.sockets.clientSocket().Evidence(ctx, api.EvidenceRequest{Nonce: nonce, Freshness: evidence.Anchored, Log: api.LogNone, FirmwareLog: true})
	if err != nil {
		d.bad("evidence", failed(err).hint, "%v", err)
		return
	}
	e, err := evidence.Parse(document)
	if err != nil {
		d.bad("evidence", "install the same version of agentctl and agentd", "%v", err)
		return
	}
	d.evidence = true
	d.good("evidence", "%d bytes without the measurement log", len(document))
	d.lookAtCertificates(is, e)
	d.lookAtCloud(is, e)
	d.lookAtFirmwareLog(e.FirmwareLog)
}

// causesOf returns the findings that can be the cause of a refusal with code.
func (d *doctor) causesOf(code api.Code) []string {
	switch c := string(code); {
	case strings.HasPrefix(c, "platform-"):
		return []string{agentsReports, deviceOfReports}
	case strings.HasPrefix(c, "log-"), code == api.CodePCRMismatch:
		return []string{agentsLog}
	case strings.HasPrefix(c, "tpm-"), code == api.CodeAKUnusable:
		return []string{agentsTPM}
	}
	return []string{agentsTPM, agentsLog, agentsReports}
}

// lookAtFirmwareLog says whether verifiers can use the firmware's log.
func (d *doctor) lookAtFirmwareLog(b []byte) {
	const name = "firmware's log"
	if len(b) == 0 {
		return // many machines have none
	}
	l, err := tcglog.Parse(b)
	if err != nil {
		d.warn(name, "report it to the party that runs the host: its firmware writes the log", "verifiers cannot use it, and refuse evidence if their policy asks for it: %v", err)
		return
	}
	d.good(name, "%s", count(len(l.Events), "event"))
}

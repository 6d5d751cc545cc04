// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"io/fs"
	"regexp"
	"strings"
	"time"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/internal/config"
	"github.com/cvm-agentd/agentd/internal/tpm"
	"github.com/cvm-agentd/agentd/internal/tpm/tpmkeys"
	"github.com/cvm-agentd/agentd/internal/tpm/trial"
)

// tried is the name of the symptoms of a TPM that was tried.
const tried = "TPM tried"

// lookAtTPM has the agent try what it needs of the TPM.
func (d *doctor) lookAtTPM(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, deviceTime)
	defer cancel()
	out, err := d.sockets.adminSocket().TryTPM(ctx)
	switch {
	case errors.Is(err, fs.ErrPermission), errors.Is(err, api.CodeNotPermitted):
		d.note(tried, "run the doctor as root", "not tried out: the admin socket is for root")
	case err != nil:
		d.note(tried, failed(err).hint, "not tried out: %v", err)
	default:
		d.ofTPM(out.Findings)
	}
}

// lookAtTPMAlone tries the TPM without the agent, which does not answer. Only the kernel's
// resource manager keeps two programs apart.
func (d *doctor) lookAtTPMAlone(ctx context.Context, c config.TPM) {
	if !strings.HasPrefix(c.Device, "/dev/tpmrm") {
		return
	}
	auths, err := tpmkeys.ReadAuths(c.OwnerAuthFile, c.EndorsementAuthFile)
	switch {
	case errors.Is(err, fs.ErrPermission):
		d.note(tried, "run the doctor as root", "not tried out: %v", err)
		return
	case err != nil:
		d.bad(tried, "correct the file, or the configuration", "%v", err)
		return
	}
	ctx, cancel := context.WithTimeout(ctx, deviceTime)
	defer cancel()
	device, err := tpm.Open(ctx, c.Device, tpm.Options{CommandTimeout: time.Duration(c.Timeout)})
	switch {
	case errors.Is(err, fs.ErrPermission):
		d.note(tried, "run the doctor as root", "not tried out: %v", err)
		return
	case err != nil:
		d.bad(tried, "give the machine a vTPM and load its driver (modprobe tpm_crb, tpm_tis or tpm_svsm)", "%v", err)
		return
	}
	defer device.Close()
	var out []api.ProbeFinding
	for _, f := range trial.Run(ctx, device, auths) {
		out = append(out, api.ProbeFinding{Name: f.Name, OK: f.OK, Text: f.Text, Todo: f.Todo})
	}
	d.ofTPM(out)
}

// ofTPM shows what is wrong, each with what to do, and the rest in one line.
func (d *doctor) ofTPM(all []api.ProbeFinding) {
	var well []string
	for _, f := range all {
		if f.OK {
			well = append(well, f.Name)
		} else {
			d.bad(tried+": "+f.Name, f.Todo, "%s", f.Text)
		}
	}
	if len(well) > 0 {
		d.good(tried, "as it should be: %s", strings.Join(well, ", "))
	}
}

// toItself is the part of a hint that sends to the doctor.
var toItself = regexp.MustCompile("[:;,]? *`agentctl doctor`[^;]*")

// here returns what to do as the doctor says it, which does not send to itself.
func here(todo string) string {
	rest := strings.TrimSpace(toItself.ReplaceAllString(todo, ""))
	if rest == "" && todo != "" {
		return "the lines here about the device say more, and so may `journalctl -u agentd -p warning`"
	}
	return rest
}

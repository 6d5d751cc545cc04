// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/internal/config"
	"github.com/cvm-agentd/agentd/internal/unitfile"
)

// lookAtCredentials checks the units that load credentials from the agent: that its socket is there,
// that root provisioned what they load, and that they have no value of their own for it.
func (d *doctor) lookAtCredentials(ctx context.Context, root string, c *config.Config) {
	files, _ := filepath.Glob(filepath.Join(root, unitfile.DropInPath("*")))
	var units []string
	for _, f := range files {
		if b, err := os.ReadFile(f); err == nil && len(unitfile.Credentials(b)) > 0 {
			units = append(units, strings.TrimSuffix(filepath.Base(filepath.Dir(f)), ".d"))
		}
	}
	if len(units) == 0 {
		return
	}
	const name = "credentials"
	if path := c.Sockets.CredentialsPath(); !isSocket(filepath.Join(root, path)) {
		d.bad(name+": socket", "`systemctl enable --now agentd-credentials.socket`, then `systemctl restart agentd.service`", "%s cannot start: %s is not a socket", strings.Join(units, ", "), path)
	}
	all, err := soon(ctx, func(ctx context.Context) (*api.Secrets, error) { return d.sockets.adminSocket().Secrets(ctx, "") })
	if err != nil {
		d.note(name, failed(err).hint, "what root provisioned is not known: %v", err)
		return
	}
	missing := 0
	for _, unit := range units {
		missing += d.lookAtUnit(root, unit, all.Secrets)
	}
	if missing == 0 {
		d.good(name, "root provisioned all that %s load: %s", count(len(units), "unit"), strings.Join(units, ", "))
	}
}

// lookAtUnit checks one unit, and returns how much of what it loads is missing.
func (d *doctor) lookAtUnit(root, unit string, secrets []api.ProvisionedSecret) (missing int) {
	b, err := unitfile.Read(root, unit)
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(b), " measure --app ")
	app, _, _ := strings.Cut(rest, "\n")
	service, err := unitfile.Load(root, unit)
	for _, name := range unitfile.Credentials(b) {
		if !slices.ContainsFunc(secrets, func(x api.ProvisionedSecret) bool { return x.App == app && x.Name == name }) {
			missing++
			d.bad("credentials: "+name+" of "+unit, "`agentctl secret put --app "+app+" "+name+"`", "%s does not start: root provisioned no %s for app %s", unit, name, app)
		}
		if err == nil && slices.Contains(service.Fallbacks, name) {
			d.warn("credentials: value of "+unit, "remove SetCredential= of that name from the unit", "%s starts with a value of its own for %s whenever the socket is missing", unit, name)
		}
	}
	return missing
}

func isSocket(path string) bool {
	st, err := os.Lstat(path)
	return err == nil && st.Mode().Type() == os.ModeSocket
}

// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/internal/config"
	"github.com/cvm-agentd/agentd/internal/unitfile"
	"github.com/cvm-agentd/agentd/sealing"
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
	apps, err := soon(ctx, d.sockets.adminSocket().Apps)
	if err != nil {
		d.note(name, failed(err).hint, "whether the apps have the digests that their keys require is not known: %v", err)
	}
	missing := 0
	for _, unit := range units {
		missing += d.lookAtUnit(root, unit, all.Secrets)
		app, names := loads(root, unit)
		for _, x := range all.Secrets {
			if x.App == app && slices.Contains(names, x.Name) {
				c, err := soon(ctx, func(ctx context.Context) (*api.Contract, error) {
					return d.sockets.adminSocket().Contract(ctx, app, sealing.Provisioned+x.Name)
				})
				if err == nil && !d.opens(unit, x.Name, c, apps) {
					missing++
				}
			}
		}
	}
	if missing == 0 {
		d.good(name, "root provisioned all that %s load: %s", count(len(units), "unit"), strings.Join(units, ", "))
	}
}

// lookAtUnit checks one unit, and returns how much of what it loads is missing.
func (d *doctor) lookAtUnit(root, unit string, secrets []api.ProvisionedSecret) (missing int) {
	app, names := loads(root, unit)
	service, err := unitfile.Load(root, unit)
	for _, name := range names {
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

// loads returns the app of a unit, and the names of the credentials that its drop-in loads.
func loads(root, unit string) (app string, names []string) {
	b, err := unitfile.Read(root, unit)
	if err != nil {
		return "", nil
	}
	_, rest, _ := strings.Cut(string(b), " measure --app ")
	app, _, _ = strings.Cut(rest, "\n")
	return app, unitfile.Credentials(b)
}

// opens reports whether the unit gets the credential at its next start, as far as the contract and
// what the app is measured as say.
func (d *doctor) opens(unit, name string, c *api.Contract, apps []api.App) bool {
	if c.Code != "" {
		d.bad("credentials: "+name+" of "+unit, c.Code.Info().Hint, "%s does not start: %s does not open: %s", unit, name, c.Reason)
		return false
	}
	if c.Unproven {
		d.warn("credentials: writer of "+name+" of "+unit, "`agentctl secret rotate --app "+c.App+" "+name+"`", "%s was recovered although nothing told who wrote it", name)
	}
	i := slices.IndexFunc(apps, func(a api.App) bool { return a.Name == c.App })
	if i < 0 || apps[i].Digest == nil || len(c.Digests) == 0 || slices.Contains(c.Digests, *apps[i].Digest) {
		return true
	}
	d.bad("credentials: digest of "+unit, fmt.Sprintf("if the program was meant to change: `agentctl key authorize --app %s --digest hex:%s`", c.App, apps[i].Digest),
		"%s does not start: app %s is measured as another digest than its keys require", unit, c.App)
	return false
}

func isSocket(path string) bool {
	st, err := os.Lstat(path)
	return err == nil && st.Mode().Type() == os.ModeSocket
}

// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"os"

	"github.com/cvm-agentd/agentd/agent/internal/apps"
	"github.com/cvm-agentd/agentd/agent/internal/containers"
	"github.com/cvm-agentd/agentd/agent/internal/identity"
	"github.com/cvm-agentd/agentd/agent/internal/peer"
	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/internal/apps/declaration"
	"github.com/cvm-agentd/agentd/internal/caller"
	"github.com/cvm-agentd/agentd/internal/config"
	"github.com/cvm-agentd/agentd/internal/rootfs"
	"github.com/cvm-agentd/agentd/pcr"
)

// applications are the declared applications, and the containers that were measured.
type applications struct {
	*apps.Service
	measured *containers.Containers
}

// newContainers returns the containers of this machine.
func (d *daemon) newContainers() *containers.Containers {
	c, digests := d.o.Config, rootfs.NewCache()
	d.read = new(rootfs.Counts)
	return containers.New(containers.Config{
		Proc:     "/proc",
		Groups:   peer.FindGroups("/sys/fs/cgroup"),
		Recorder: func(ctx context.Context) (identity.Recorder, error) { return d.ledger.Wait(ctx) },
		Wait: func(ctx context.Context) error {
			_, err := d.apps.Wait(ctx)
			return err
		},
		Apps: d.images,
		Root: func(ctx context.Context, root *os.File, layers *rootfs.Layers, mounted func(string) bool) (pcr.ContainerRoot, error) {
			a, err := d.apps.Wait(ctx)
			if err != nil {
				return pcr.ContainerRoot{}, err
			}
			return rootfs.Measure(ctx, root, rootfs.Options{Mounted: mounted, Layers: layers, Turn: a.Turn, Counts: d.read})
		},
		Layers: func(options, root string, open rootfs.Opener) (*rootfs.Layers, error) {
			return rootfs.OpenLayers(digests, options, root, open)
		},
		All:  c.Measurement.Containers == config.AllContainers,
		Most: int64(c.Limits.LogBytes) / 2,
		Log:  d.log,
	})
}

// images returns the declared apps that a container of an engine can be.
func (d *daemon) images(engine, unit string, fits func(image string) bool) (out []containers.Declared) {
	for _, x := range declaredContainers(d.service) {
		if x.Is(engine, unit, fits) {
			out = append(out, containers.Declared{Name: x.Name, Digest: x.Digest})
		}
	}
	return out
}

// declaredContainers returns the declarations of apps that are containers, none before they were
// read.
func declaredContainers(s *apps.Service) []*declaration.Declaration {
	if a, up := s.Apps.Now(); up {
		return a.Containers()
	}
	return nil
}

// Container returns the measured container that p is in, nil if it is in none. It is the app that it
// was recorded as only while a declaration of that name still fits it.
func (a applications) Container(p *caller.Peer) *caller.Container {
	found := a.measured.In(p)
	if found == nil {
		return nil
	}
	out := &caller.Container{Container: found.Container}
	for _, x := range declaredContainers(a.Service) {
		if x.Name == found.App && found.Is(x.Is) {
			out.App = &caller.App{Name: x.Name, Unit: x.Unit, UID: found.UID, Engine: x.Engine}
		}
	}
	return out
}

// Beside reports whether p is in the control group of a measured container.
func (a applications) Beside(p *caller.Peer) bool { return a.measured.Beside(p) }

// measuring answers engines that create containers.
type measuring struct{ d *daemon }

// Record measures a container, once the declarations are read.
func (m measuring) Record(ctx context.Context, hook *caller.Peer, r api.ContainerRequest) (api.Container, error) {
	return m.d.containers.Record(ctx, containers.Hook{PID: hook.PID, Running: hook.Process.Running}, r)
}

// List returns the measured containers that run.
func (m measuring) List() []api.Container { return m.d.containers.List() }

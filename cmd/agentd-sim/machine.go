// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cvm-agentd/agentd/agent"
	"github.com/cvm-agentd/agentd/internal/caller"
	"github.com/cvm-agentd/agentd/internal/config"
	"github.com/cvm-agentd/agentd/internal/declared"
	"github.com/cvm-agentd/agentd/internal/durable"
	"github.com/cvm-agentd/agentd/internal/platform"
	"github.com/cvm-agentd/agentd/internal/platform/soft"
	"github.com/cvm-agentd/agentd/internal/platform/soft/paravisor"
	"github.com/cvm-agentd/agentd/internal/swtpm"
	"github.com/cvm-agentd/agentd/internal/tpm"
	"github.com/cvm-agentd/agentd/internal/version"
	"github.com/cvm-agentd/agentd/verify/snp"
)

// machine is a simulated machine that is switched on.
type machine struct {
	dir      string
	tpm      string     // address of a TPM that is not ours
	inMemory bool       // the log: a boot of that TPM ends it
	imaList  string     // file with the list of IMA; empty: none
	child    *swtpm.TPM // our own, nil if tpm is set
	kind     kind
	wire     io.ReadWriteCloser // to child, or to what is between
	open     platform.Open
	spacing  time.Duration // least time between two reports

	paravisor     paravisor.Faults
	firstManifest bool // an SVSM knows version 0 of the manifest alone
	configfs      bool // a plain guest has configfs-tsm beside the device of the SNP driver

	policyRoot, policyTables string // further rules of the example of a policy

	platform   *soft.Platform
	roots      *snp.Roots // the test root
	config     config.Config
	configText []byte
	callers    func(caller.Kernel) caller.Kernel // nil unless callers are believed
	systemd    func(pid int) error               // the same
	bootID     string                            // of the simulated kernel; empty if the TPM is not ours
}

// boot makes the folder of the machine and switches its parts on.
func boot(o options) (m *machine, err error) {
	m = &machine{dir: o.dir, tpm: o.tpm, inMemory: o.inMemory, imaList: o.imaList, kind: kinds[o.kind], firstManifest: o.firstManifest, configfs: o.configfs, paravisor: o.paravisor}
	if o.believe {
		m.callers, m.systemd = declared.IdentitiesWithoutChecking, declared.SystemdWithoutChecking
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, m.close())
		}
	}()
	if m.config, m.configText, err = m.reread(); err != nil {
		return m, err
	}
	if err := checkSockets(m.config.Sockets.Client, m.config.Sockets.Admin, m.config.Sockets.CredentialsPath(), m.config.Sockets.GatePath()); err != nil {
		return m, err
	}
	if m.dir, err = prepare(o.dir); err != nil {
		return m, err
	}
	if m.config, m.configText, err = m.reread(); err != nil { // now that the folder has its name
		return m, err
	}
	if m.tpm == "" {
		m.child, err = swtpm.Start(swtpm.Options{Dir: filepath.Join(m.dir, "tpm")})
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = fmt.Errorf("another agentd-sim runs in %s: end it, or name another folder (%w)", m.dir, err)
		}
		if err != nil {
			return m, err
		}
		m.bootID = rand.Text()
		// The TPM was reset, so this is another boot, and /run is empty after one. The
		// state directory of swtpm is locked: no other agent has the log.
		if err := forget(filepath.Join(m.dir, "log")); err != nil {
			return m, err
		}
	}
	if m.kind.change != nil {
		m.kind.change(&o.platform)
	}
	m.spacing = o.platform.spaced(m.config)
	if m.platform, err = o.platform.start(filepath.Join(m.dir, "platform"), m.config, m.child == nil); err != nil {
		return m, err
	}
	if m.wire, m.open, err = m.kind.boot(m); err != nil {
		return m, err
	}
	if err := m.measure(); err != nil {
		return m, err
	}
	if m.roots, err = testRoots(m.platform); err != nil {
		return m, err
	}
	return m, m.publish()
}

// testRoots returns the root of the simulated platform, which successors are verified by.
func testRoots(p *soft.Platform) (*snp.Roots, error) {
	root, err := p.Root()
	if err != nil {
		return nil, err
	}
	roots := &snp.Roots{}
	return roots, roots.AddTestRootThatVouchesForNoHardware(root)
}

// reread reads the configuration over defaults that keep everything in the folder.
func (m *machine) reread() (config.Config, []byte, error) {
	c := config.Default()
	c.Sockets = config.Sockets{Client: filepath.Join(m.dir, "agentd.sock"), Admin: filepath.Join(m.dir, "admin.sock")}
	c.Measurement.ApplicationFolders = []string{filepath.Join(m.dir, "apps.d")}
	c.Measurement.LogFolder = filepath.Join(m.dir, "log")
	c.Measurement.FirmwareLog = "" // that of this machine says nothing of the simulated TPM
	c.Report.Spacing = 0
	c.Report.CertificateFolder = filepath.Join(m.dir, "certs")
	c.Keys.LoseOnHardwareChange = true // there is no hardware
	c.State.Folder = filepath.Join(m.dir, "state")
	c.TPM.AK = cmp.Or(m.kind.ak, c.TPM.AK)
	return config.Load(filepath.Join(m.dir, "config.toml"), c)
}

func (m *machine) options(log *slog.Logger) agent.Options {
	return agent.Options{
		Config: m.config, ConfigText: m.configText, Reread: m.reread,
		Machine: agent.Machine{
			OpenTPM: func(ctx context.Context) (*tpm.Device, error) {
				o := tpm.Options{CommandTimeout: time.Duration(m.config.TPM.Timeout), Log: log}
				if m.child == nil {
					return tpm.Open(ctx, m.tpm, o)
				}
				return tpm.New(m.wire, o), nil
			},
			BootID: m.bootID,
			// This program empties the folder at each boot of its own TPM, wherever it is. It
			// does not see a boot of another TPM.
			LogEndsWithBoot: func(*durable.Dir) (bool, error) { return m.child != nil || m.inMemory, nil },
			OpenPlatform:    m.open,
			IMAList:         m.openIMAList,
			InMemory:        func(*os.File) (bool, error) { return true, nil }, // its folders are wherever the user wants them
		},
		Version:   version.Version + "-simulated",
		AdminUIDs: []uint32{uint32(os.Geteuid())},
		Callers:   m.callers,
		Systemd:   m.systemd,
		Log:       log,
		Ready:     m.announce,

		TestRootsThatVouchForNoHardware: m.roots,
	}
}

// announce prints where everything is.
func (m *machine) announce() {
	fmt.Printf(`agentd-sim: a simulated machine: nothing here vouches for any hardware
client socket  %s
admin socket   %s
apps           %s
test root      %s
policy         %s
ready
`, m.config.Sockets.Client, m.config.Sockets.Admin, filepath.Join(m.dir, "apps.d"), filepath.Join(m.dir, rootFile), filepath.Join(m.dir, policyFile))
}

func (m *machine) close() error {
	var errs []error
	if m.platform != nil {
		errs = append(errs, m.platform.Close())
	}
	if m.child != nil {
		// The daemon has closed the connection already; the child must end too.
		if err := m.child.Close(); err != nil && !errors.Is(err, os.ErrClosed) && !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// SPDX-License-Identifier: Apache-2.0

// Guest runs in the virtual machine of the tests, together with the package. It is the
// driver that executes orders of the tests, the doubles of /dev/sev-guest and of configfs-tsm,
// a registry of images, and a small application.
//
//	guest driver                        execute scripts from the virtio port
//	guest prepare DIR                   make the keys of the software platform
//	guest sevguest DIR                  serve /dev/sev-guest
//	guest tsm DIR                       serve /sys/kernel/config/tsm/report
//	guest tsm-svsm DIR                  the same, of a guest above an SVSM with this TPM
//	guest app SOCKET                    be the application that asks the agent
//	guest contained DIR                 be the application, as the first program of a container
//	guest registry DIR ADDRESS          serve the images of a layout of OCI
//	guest pod WORD...                   have containerd run a container in a pod
//	guest pause                         wait, as the first program of a pod does
//	guest direct WORD...                ask the agent as the application does, print its answer
//	guest ask SOCKET WORD...            send words to the application, print its answer
//	guest storm FILE                    ask the agent without pause until FILE is removed
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/cvm-agentd/agentd/internal/platform/configfs"
	"github.com/cvm-agentd/agentd/internal/platform/soft"
	"github.com/cvm-agentd/agentd/internal/platform/soft/svsm"
	"github.com/cvm-agentd/agentd/internal/platform/soft/tsm"
	"github.com/cvm-agentd/agentd/internal/tpm"
	"github.com/cvm-agentd/agentd/test/tsmfs"
	"github.com/cvm-agentd/agentd/test/vm/sevguest"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "guest:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	switch {
	case len(args) == 1 && args[0] == "driver":
		return drive("/dev/virtio-ports/agentd.test")
	case len(args) == 2 && args[0] == "prepare":
		return prepare(args[1])
	case len(args) == 2 && args[0] == "sevguest":
		p, err := soft.New(soft.Options{Directory: args[1]})
		if err != nil {
			return err
		}
		return sevguest.Serve("sev-guest", p.Transport(), func() { _, _ = daemon.SdNotify(false, daemon.SdNotifyReady) })
	case len(args) == 2 && (args[0] == "tsm" || args[0] == "tsm-svsm"):
		return serveReports(args[1], args[0] == "tsm-svsm")
	case len(args) == 2 && args[0] == "app":
		return serveApp(args[1])
	case len(args) == 2 && args[0] == "contained":
		return contained(args[1])
	case len(args) == 3 && args[0] == "registry":
		return serveImages(args[1], args[2])
	case len(args) > 1 && args[0] == "pod":
		return pod(args[1:])
	case len(args) == 1 && args[0] == "pause":
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
		defer stop()
		<-ctx.Done()
		return nil
	case len(args) > 1 && args[0] == "direct":
		b, err := askAgent(args[1:])
		if err == nil {
			_, err = os.Stdout.Write(b)
		}
		return err
	case len(args) > 2 && args[0] == "ask":
		return ask(args[1], args[2:])
	case len(args) == 2 && args[0] == "storm":
		return storm(args[1])
	}
	return fmt.Errorf("unknown arguments %q", args)
}

// serveReports serves configfs-tsm over the kernel's own, which has no driver here, until it is told
// to end. An SVSM knows the first version of its manifest only.
func serveReports(dir string, above bool) error {
	p, err := soft.New(soft.Options{Directory: dir})
	if err != nil {
		return err
	}
	o := tsm.Options{Firmware: p.Transport()}
	if above {
		ek, err := endorsement()
		if err != nil {
			return err
		}
		s := &svsm.SVSM{Firmware: p.Transport(), EK: func() ([]byte, error) { return ek, nil }}
		o = tsm.Options{Firmware: s.Guest(), Floor: svsm.GuestVMPL, SVSM: s.Report}
	}
	end, err := tsmfs.Mount(filepath.Dir(configfs.Entry), o)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	_, _ = daemon.SdNotify(false, daemon.SdNotifyReady)
	<-ctx.Done()
	return end()
}

// endorsement returns the TPMT_PUBLIC of the endorsement key of this machine's TPM.
func endorsement() (ek []byte, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	d, err := tpm.Open(ctx, "/dev/tpmrm0", tpm.Options{})
	if err != nil {
		return nil, err
	}
	defer d.Close()
	err = d.Do(ctx, func(t transport.TPM) (err error) {
		ek, err = svsm.Endorsement(t)
		return err
	})
	return ek, err
}

// prepare makes the platform's keys and the files for the verifier. The keys take long on an
// emulated processor.
func prepare(dir string) error {
	p, err := soft.New(soft.Options{Directory: dir})
	if err != nil {
		return err
	}
	root, err := p.RootPEM()
	if err != nil {
		return err
	}
	if err := os.WriteFile(dir+"/test-root.pem", root, 0o644); err != nil {
		return err
	}
	return os.WriteFile(dir+"/measurement", fmt.Appendf(nil, "%x", p.Options().Measurement), 0o644)
}

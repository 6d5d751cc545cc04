// SPDX-License-Identifier: Apache-2.0

package host

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// The longest times for an emulated machine to boot or power off, and for one script, on processors
// with much other work.
const (
	bootPatience   = 15 * time.Minute
	scriptPatience = 15 * time.Minute
)

// machine is a virtual machine with a disk and a TPM that survive a power cut.
type machine struct {
	work, image string
	packages    string
	disks       string // asRealDisks or neverCut

	outside string // address of this host that leads to deliveryPort of the machine; empty if none does

	qemu, tpm *exec.Cmd
	port      net.Conn
	lines     chan report
	id        uint64
}

// What QEMU does when the machine wants its writes on disk. If the power of a machine is never cut, it
// need not wait: engines of containers ask for that all the time.
const (
	asRealDisks = "cache=writeback"
	neverCut    = "cache=unsafe"
)

// order is a request to the driver in the machine, and report its answer.
type order struct {
	ID     uint64 `json:"id"`
	Script string `json:"script"`
}

type report struct {
	ID     uint64 `json:"id"`
	Code   int    `json:"code"`
	Output string `json:"output"`
}

func newMachine(work, image, disks string) (*machine, error) {
	m := &machine{work: work, image: image, packages: filepath.Join(work, "packages.img"), disks: disks}
	if err := os.MkdirAll(filepath.Join(m.work, "tpm"), 0o700); err != nil {
		return nil, err
	}
	for _, c := range [][]string{
		{"cp", "--sparse=always", filepath.Join(image, "disk"), m.disk()},
		{"mke2fs", "-q", "-t", "ext4", "-d", *packageFolder, m.packages, "256M"},
		{"cp", firmwareVariables, m.variables()},
		{"truncate", "--size=64M", m.data()},
	} {
		if out, err := exec.Command(c[0], c[1:]...).CombinedOutput(); err != nil {
			return nil, fmt.Errorf("%v: %w: %s", c, err, out)
		}
	}
	return m, nil
}

func (m *machine) disk() string    { return filepath.Join(m.work, "disk") }
func (m *machine) console() string { return filepath.Join(m.work, "console.log") }

// data is a second disk, the machine's /dev/vdc.
func (m *machine) data() string { return filepath.Join(m.work, "data") }

// variables is the firmware's memory.
func (m *machine) variables() string { return filepath.Join(m.work, "variables.fd") }

// The UEFI firmware of Debian's package ovmf.
const (
	firmwareCode      = "/usr/share/OVMF/OVMF_CODE_4M.fd"
	firmwareVariables = "/usr/share/OVMF/OVMF_VARS_4M.fd"
)

// boot is a way to boot the machine.
type boot int

const (
	direct     boot = iota // QEMU loads the kernel: nothing is measured before it
	withoutTPM             // likewise, and there is no TPM
	measuring              // as direct, and the kernel measures by its policy of IMA tcb
	byFirmware             // UEFI firmware loads shim, shim loads GRUB, GRUB loads the kernel
	reachable              // as direct, and this host reaches one port of the machine, which reaches nothing
)

// deliveryPort is the port of the machine that this host reaches, and guestAddress the machine's
// address on that network, which is the one that QEMU's documentation says.
const (
	deliveryPort = 8444
	guestAddress = "10.0.2.15"
)

// network returns the arguments of QEMU for a network card.
func (m *machine) network(how boot) ([]string, error) {
	m.outside = ""
	if how != reachable {
		return nil, nil
	}
	l, err := net.Listen("tcp", "127.0.0.1:0") // a port that is free
	if err != nil {
		return nil, err
	}
	defer l.Close()
	m.outside = l.Addr().String()
	return []string{
		"-netdev", "user,id=net,restrict=on,hostfwd=tcp:" + m.outside + "-:" + strconv.Itoa(deliveryPort),
		"-device", "virtio-net-pci,netdev=net,romfile=",
	}, nil
}

// loader returns the arguments of QEMU for a way to boot.
func (m *machine) loader(how boot) []string {
	if how == byFirmware {
		return []string{
			"-drive", "if=pflash,format=raw,unit=0,readonly=on,file=" + firmwareCode,
			"-drive", "if=pflash,format=raw,unit=1,file=" + m.variables(),
			"-drive", "file=fat:" + filepath.Join(m.image, "esp") + ",if=virtio,format=raw,readonly=on",
		}
	}
	// Emulated processors gain nothing from mitigations, and take a tenth more time with them.
	line := "root=/dev/vda rw console=ttyS0 quiet panic=1 systemd.show_status=0 mitigations=off"
	if how == measuring {
		line += " ima_policy=tcb"
	}
	return []string{
		"-kernel", filepath.Join(m.image, "vmlinuz"), "-initrd", filepath.Join(m.image, "initrd"),
		"-append", line,
	}
}

// start switches the machine on.
func (m *machine) start(ctx context.Context, how boot) error {
	serial, err := os.OpenFile(m.console(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer serial.Close()
	control, tpm := filepath.Join(m.work, "control.sock"), filepath.Join(m.work, "tpm.sock")
	os.Remove(control)
	os.Remove(tpm)
	args := []string{
		// One processor: while the kernel rewrote its own code, a second emulated processor
		// executed neither the old nor the new code, and the kernel panicked.
		"-accel", "tcg", "-M", "q35", "-cpu", "max", "-smp", "1", "-m", "2048",
		"-nodefaults", "-nographic", "-serial", "stdio",
		"-drive", "file=" + m.disk() + ",if=virtio,format=raw," + m.disks,
		"-drive", "file=" + m.packages + ",if=virtio,format=raw,readonly=on",
		"-drive", "file=" + m.data() + ",if=virtio,format=raw," + m.disks,
		"-device", "virtio-rng-pci", "-device", "virtio-serial-pci",
		"-chardev", "socket,id=control,path=" + control + ",server=on,wait=off",
		"-device", "virtserialport,chardev=control,name=agentd.test",
	}
	args = append(args, m.loader(how)...)
	card, err := m.network(how)
	if err != nil {
		return err
	}
	args = append(args, card...)
	if how != withoutTPM {
		m.tpm = child("swtpm", "socket", "--tpm2", "--tpmstate", "dir="+filepath.Join(m.work, "tpm"), "--ctrl", "type=unixio,path="+tpm)
		m.tpm.Stderr = serial
		if err := m.tpm.Start(); err != nil {
			return err
		}
		// The kernel waits for a TPM in real time, and IMA never repeats an extension: on a busy machine
		// the TPM goes first. It needs little.
		if how == measuring {
			if err := syscall.Setpriority(syscall.PRIO_PROCESS, m.tpm.Process.Pid, -10); err != nil {
				return fmt.Errorf("priority of swtpm: %w", err)
			}
		}
		if err := waitFor(ctx, time.Minute, func() bool { _, err := os.Stat(tpm); return err == nil }); err != nil {
			return fmt.Errorf("swtpm: %w", err)
		}
		args = append(args, "-chardev", "socket,id=tpm,path="+tpm, "-tpmdev", "emulator,id=tpm0,chardev=tpm", "-device", "tpm-crb,tpmdev=tpm0")
	}
	m.qemu = child("qemu-system-x86_64", args...)
	m.qemu.Stdout, m.qemu.Stderr = serial, serial
	if err := m.qemu.Start(); err != nil {
		return err
	}
	if err := waitFor(ctx, time.Minute, func() bool { m.port, err = net.Dial("unix", control); return err == nil }); err != nil {
		return fmt.Errorf("virtio port: %w", err)
	}
	m.lines = make(chan report, 16)
	go func(port net.Conn, lines chan report) {
		defer close(lines)
		in := bufio.NewReaderSize(port, 1<<20)
		for {
			line, err := in.ReadBytes('\n')
			if err != nil {
				return
			}
			var r report
			if json.Unmarshal(line, &r) == nil {
				lines <- r
			}
		}
	}(m.port, m.lines)
	return m.booted(ctx)
}

// child returns a command that ends with this process.
func child(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}

func waitFor(ctx context.Context, patience time.Duration, f func() bool) error {
	deadline := time.Now().Add(patience)
	for !f() {
		if time.Now().After(deadline) {
			return fmt.Errorf("no success within %v", patience)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(100 * time.Millisecond):
		}
	}
	return nil
}

// booted waits until the driver answers and systemd has finished booting.
func (m *machine) booted(ctx context.Context) error {
	limit := time.After(bootPatience)
	for {
		select {
		case r, ok := <-m.lines:
			if !ok {
				return errors.New("the machine has ended: see console.log")
			}
			if r.ID == 0 && r.Output == "ready" {
				_, err := m.run(ctx, "systemctl is-system-running --wait >/dev/null || true")
				return err
			}
		case <-limit:
			return fmt.Errorf("the machine has not booted within %v: see console.log", bootPatience)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// run executes a script in the machine. It returns an error with the output if the script
// ends with another code than 0.
func (m *machine) run(ctx context.Context, script string) (string, error) {
	r, err := m.code(ctx, script)
	if err == nil && r.Code != 0 {
		err = fmt.Errorf("exit code %d of: %s\n%s", r.Code, script, r.Output)
	}
	return r.Output, err
}

// send sends a script to the machine, and does not wait for its end.
func (m *machine) send(script string) error {
	if m.port == nil {
		return errors.New("the machine is off: it could not be started")
	}
	m.id++
	b, err := json.Marshal(order{ID: m.id, Script: script})
	if err != nil {
		return err
	}
	if _, err := m.port.Write(append(b, '\n')); err != nil {
		return fmt.Errorf("the machine is off: %w", err)
	}
	return nil
}

// code executes a script in the machine, and returns its output and exit code.
func (m *machine) code(ctx context.Context, script string) (report, error) {
	if err := m.send(script); err != nil {
		return report{}, err
	}
	limit := time.After(scriptPatience)
	for {
		select {
		case r, ok := <-m.lines:
			if !ok {
				return r, errors.New("the machine has ended: see console.log")
			}
			if r.ID == m.id {
				return r, nil
			}
		case <-limit:
			return report{}, fmt.Errorf("no answer within %v to: %s", scriptPatience, script)
		case <-ctx.Done():
			return report{}, context.Cause(ctx)
		}
	}
}

// reboot boots the machine again, like an operator. systemd may end the driver before the driver has
// answered.
func (m *machine) reboot(ctx context.Context) error {
	if err := m.send("systemctl --no-block reboot"); err != nil {
		return err
	}
	return m.booted(ctx)
}

// cut takes the power away. Data that the disk and the TPM have not received is lost.
func (m *machine) cut() {
	for _, c := range []*exec.Cmd{m.qemu, m.tpm} {
		if c != nil && c.Process != nil {
			c.Process.Kill()
			c.Wait()
		}
	}
	if m.port != nil {
		m.port.Close()
	}
	m.qemu, m.tpm, m.port = nil, nil, nil
}

// shutDown shuts the machine down cleanly.
func (m *machine) shutDown(ctx context.Context) error {
	if err := m.send("systemctl --no-block poweroff"); err != nil { // as in reboot
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- m.qemu.Wait() }()
	select {
	case <-ended:
	case <-time.After(bootPatience):
		m.qemu.Process.Kill()
		<-ended
		return fmt.Errorf("the machine did not power off within %v", bootPatience)
	}
	m.qemu = nil
	m.cut()
	return nil
}

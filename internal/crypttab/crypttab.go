// SPDX-License-Identifier: Apache-2.0

// Package crypttab contains what systemd and this project agree on for a volume: its name and
// unit, the line in /etc/crypttab, the drop-in that checks the header before, and the command line
// by which systemd-cryptsetup then opens the volume.
//
// A line has four fields (crypttab(5)):
//
//	volume  device  key-file  option,option=value,...
//
// and the generator makes of it the service systemd-cryptsetup@VOLUME.service, which runs
//
//	systemd-cryptsetup attach volume device key-file options
package crypttab

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/internal/unitname"
)

// MaxName is the longest name of a volume in bytes. The device mapper allows 127.
const MaxName = 64

// File is the table of volumes.
const File = "/etc/crypttab"

// CheckName refuses a name of a volume that systemd or the device mapper would write in another
// way: letters, digits, '-' and '_' are left, and a letter or digit is first.
func CheckName(name string) error {
	if len(name) < 1 || len(name) > MaxName {
		return fmt.Errorf("name of a volume with %d bytes, want 1 to %d", len(name), MaxName)
	}
	for i := range len(name) {
		c := name[i]
		if word := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'; !word && (i == 0 || c != '-' && c != '_') {
			return fmt.Errorf("name of a volume %q contains %q: want letters, digits, '-' and '_', a letter or digit first", name, name[i:i+1])
		}
	}
	return nil
}

// Unit returns the service of a volume.
func Unit(name string) string {
	return "systemd-cryptsetup@" + unitname.Escape(name) + ".service"
}

// HeaderFolder returns the folder of the checked copies of headers, for agents that have their
// admin socket at path: /run/agentd-disks beside /run/agentd/admin.sock.
func HeaderFolder(adminSocket string) string { return filepath.Dir(adminSocket) + "-disks" }

// HeaderFile returns the checked copy of the header of a volume.
func HeaderFile(folder, name string) string { return filepath.Join(folder, name+".header") }

// options are those of every line. luks: no other format is looked for. header: systemd-cryptsetup
// reads the checked copy and never the device's. headless and tries: a host may own the console, so
// no recovery key is asked for there. _netdev: the agent starts after the file systems of the
// machine are there, so that cryptsetup.target would wait for itself.
func options(header string) string { return "luks,header=" + header + ",headless=true,tries=1,_netdev" }

// Line returns the line of a volume.
func Line(name, uuid, socket, header string) string {
	return fmt.Sprintf("%s UUID=%s %s %s\n", name, uuid, socket, options(header))
}

// Put returns table with the line of a volume, in the place of one that it has.
func Put(table []byte, name, line string) []byte {
	out := Remove(table, name)
	if len(out) > 0 && out[len(out)-1] != '\n' {
		out = append(out, '\n')
	}
	return append(out, line...)
}

// Remove returns table without the line of a volume.
func Remove(table []byte, name string) []byte {
	var out []byte
	for line := range strings.Lines(string(table)) {
		if f := strings.Fields(line); len(f) > 0 && f[0] == name {
			continue
		}
		out = append(out, line...)
	}
	return out
}

// Find returns the line of a volume, "" if there is none.
func Find(table []byte, name string) string {
	for line := range strings.Lines(string(table)) {
		if f := strings.Fields(line); len(f) > 0 && f[0] == name {
			return line
		}
	}
	return ""
}

// CheckCommand refuses the command line of a systemd-cryptsetup that would read another header of
// the volume than the checked copy.
func CheckCommand(command []string, name, header string) error {
	if len(command) < 5 || len(command) > 6 || command[1] != "attach" {
		return fmt.Errorf("it was not started as systemd-cryptsetup attach VOLUME DEVICE KEY-FILE OPTIONS")
	}
	if command[2] != name {
		return fmt.Errorf("it opens volume %q", command[2])
	}
	if len(command) < 6 {
		return fmt.Errorf("it has no option header=%s", header)
	}
	var headers []string
	given := strings.Split(command[5], ",")
	for _, o := range given {
		if h, ok := strings.CutPrefix(o, "header="); ok {
			headers = append(headers, h)
		}
	}
	if !slices.Equal(headers, []string{header}) {
		return fmt.Errorf("its options have the headers %q, want only header=%s", headers, header)
	}
	if !slices.Contains(given, "luks") {
		return fmt.Errorf("its options do not contain luks, without which another format is possible")
	}
	for _, o := range given {
		word, _, _ := strings.Cut(o, "=")
		if slices.Contains(formats, word) || strings.HasPrefix(word, "tcrypt") || strings.HasPrefix(word, "veracrypt") {
			return fmt.Errorf("its options contain %s, which chooses another format than luks", o)
		}
	}
	if strings.ContainsAny(command[5], `\"'`) { // with which systemd has a comma in an option
		return fmt.Errorf("its options contain a backslash or quotes")
	}
	return nil
}

// formats are options that choose the format, as luks does and those that begin with tcrypt and
// veracrypt: the last one counts. With swap and tmp it is plain, and written over (crypttab(5)).
var formats = []string{"plain", "bitlk", "swap", "tmp"}

const first = "# Written by `agentctl disk enroll`. Remove it with `agentctl disk remove`."

// DropInPath returns the path of the drop-in of a volume's service.
func DropInPath(name string) string { return "/etc/systemd/system/" + Unit(name) + ".d/50-agentd.conf" }

// DropIn returns the drop-in that has the header checked, and copied into memory, before
// systemd-cryptsetup starts. It says Wants and not Requires: a restart of the agent does not close
// the volume.
func DropIn(name string) []byte {
	return []byte(first + `
[Unit]
Wants=agentd.service
After=agentd.service

[Service]
ExecStartPre=/usr/bin/agentctl --admin ` + api.AdminSocket + ` disk prepare ` + name + `
`)
}

// Ours reports whether a drop-in is one that DropIn returned.
func Ours(b []byte) bool { return strings.HasPrefix(string(b), first+"\n") }

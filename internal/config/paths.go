// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/text"
)

// Room in names of Linux.
const (
	maxSocketPath = 107 // sun_path of struct sockaddr_un, less the zero byte at its end: unix(7)
	maxComponent  = 255 // NAME_MAX
)

// LockOf returns the name of the lock file that the agent makes next to a socket.
func LockOf(socket string) string { return socket + ".lock" }

// A used path is one that the configuration gives a purpose. Two of them must not meet.
type used struct {
	key, path, what string
	kind            use
}

// A use says what else may be at or below a path.
type use int

const (
	folder  use = iota // others may have something below it
	private            // a folder of the agent alone: nothing else is below it
	file               // nothing is below it
	read               // a file or device that the agent opens and does not make
)

// paths returns the paths of c, and what each is for.
func (c *Config) paths() []used {
	all := []used{
		{"sockets.client", c.Sockets.Client, "the client socket", file},
		{"sockets.client", LockOf(c.Sockets.Client), "the lock of the client socket", file},
		{"sockets.admin", c.Sockets.Admin, "the admin socket", file},
		{"sockets.admin", LockOf(c.Sockets.Admin), "the lock of the admin socket", file},
		{"sockets.credentials", c.Sockets.CredentialsPath(), "the socket for credentials", file},
		{"sockets.credentials", LockOf(c.Sockets.CredentialsPath()), "the lock of the socket for credentials", file},
		{"sockets.gate", c.Sockets.GatePath(), "the socket for the gate", file},
		{"sockets.gate", LockOf(c.Sockets.GatePath()), "the lock of the socket for the gate", file},
		{"state.folder", c.State.Folder, "the state folder", private},
		{"measurement.log_folder", c.Measurement.LogFolder, "the log folder", private},
		{"report.certificate_folder", c.Report.CertificateFolder, "the folder of certificates", folder},
		{"report.device", c.Report.Device, "the report device", read},
		{"report.configfs", c.Report.ConfigFS, "the entry of configfs-tsm", read},
	}
	for i, p := range c.Measurement.ApplicationFolders {
		all = append(all, used{fmt.Sprintf("measurement.application_folders[%d]", i), p, "a folder of declarations", folder})
	}
	for _, optional := range []used{
		{"tpm.owner_auth_file", c.TPM.OwnerAuthFile, "the authorization of the owner hierarchy", read},
		{"tpm.endorsement_auth_file", c.TPM.EndorsementAuthFile, "the authorization of the endorsement hierarchy", read},
		{"measurement.firmware_log", c.Measurement.FirmwareLog, "the log of the firmware", read},
	} {
		if optional.path != "" {
			all = append(all, optional)
		}
	}
	if device := strings.TrimPrefix(c.TPM.Device, "unix:"); filepath.IsAbs(device) {
		all = append(all, used{"tpm.device", device, "the TPM", read})
	}
	return all
}

// checkPaths reports paths that cannot be used, and paths that meet.
func (c *Config) checkPaths(bad func(key, format string, args ...any)) {
	all := c.paths()
	wrong := map[string]bool{}
	for _, u := range all {
		if problem := u.problem(); problem != "" && !wrong[u.key] {
			wrong[u.key] = true
			bad(u.key, "%s", problem)
		}
	}
	if len(wrong) > 0 {
		return
	}
	if c.Sockets.Client == c.Sockets.Admin {
		bad("sockets.admin", "is the client socket too: administration needs a socket of its own")
		return
	}
	for i, a := range all {
		for _, b := range all[:i] {
			if key, problem := meet(a, b); problem != "" {
				bad(key, "%s", problem)
			}
		}
	}
}

// problem says why no file can have the path, or nothing.
func (u used) problem() string {
	p := u.path
	switch {
	case len(p) > evidence.MaxPath:
		return fmt.Sprintf("a path of %d bytes, at most %d", len(p), evidence.MaxPath)
	case !text.Shown(p):
		return fmt.Sprintf("%+q contains control characters, invisible characters, spaces other than U+0020, or invalid UTF-8", p)
	case !filepath.IsAbs(p) || filepath.Clean(p) != p:
		return fmt.Sprintf("%q is not a clean absolute path", p)
	case p == "/":
		return "is the root directory: name a folder or file below it"
	case strings.HasPrefix(u.key, "sockets.") && len(p) > maxSocketPath:
		return fmt.Sprintf("the path has %d bytes, and that of a socket at most %d", len(p), maxSocketPath)
	}
	for part := range strings.SplitSeq(p, "/") {
		if len(part) > maxComponent {
			return fmt.Sprintf("a name of %d bytes in the path, at most %d", len(part), maxComponent)
		}
	}
	return ""
}

// meet says why a and b cannot both be, and under which key the later one of the file is wrong.
func meet(a, b used) (key, problem string) {
	below := func(inner, outer used) bool { return strings.HasPrefix(inner.path, outer.path+"/") }
	for _, pair := range [][2]used{{a, b}, {b, a}} {
		inner, outer := pair[0], pair[1]
		switch {
		case inner.path == outer.path && inner.key != outer.key && (inner.kind != read || outer.kind != read):
			return inner.key, fmt.Sprintf("%q is %s too (%s)", inner.path, outer.what, outer.key)
		case below(inner, outer) && outer.kind == private && inner.kind != read:
			return inner.key, fmt.Sprintf("%q is in %s (%s), which is for the agent's own files", inner.path, outer.what, outer.key)
		case below(inner, outer) && outer.kind == file:
			return inner.key, fmt.Sprintf("%q is below %s (%s), which is not a folder", inner.path, outer.what, outer.key)
		}
	}
	return "", ""
}

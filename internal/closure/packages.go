// SPDX-License-Identifier: Apache-2.0

package closure

import (
	"path"
	"slices"
	"strings"

	"github.com/cvm-agentd/agentd/internal/durable"
)

// dpkgFolder has a list of files for each package of Debian.
const dpkgFolder = "/var/lib/dpkg/info"

// unused are folders of packages whose files no service runs or is configured by.
var unused = strings.Fields(`
	/usr/share/doc /usr/share/man /usr/share/info /usr/share/locale /usr/share/lintian /usr/share/bug /usr/share/menu
	/usr/share/metainfo /usr/share/icons /usr/share/applications /usr/share/bash-completion /usr/share/zsh /usr/share/fish
	/usr/share/doc-base /usr/share/pixmaps /usr/share/gtk-doc /usr/share/help /usr/share/reportbug /usr/share/appdata
	/usr/lib/kernel /usr/lib/environment.d /usr/lib/modprobe.d /usr/lib/lsb /usr/share/pkgconfig /usr/lib/pkgconfig /etc/sysctl.d
	/usr/share/polkit-1 /usr/share/dbus-1 /usr/share/apport /usr/include /usr/lib/systemd /lib/systemd /usr/lib/sysusers.d /usr/lib/tmpfiles.d
	/usr/lib/udev /lib/udev /usr/lib/sysctl.d /usr/lib/modules-load.d /usr/lib/pam.d /usr/share/initramfs-tools
	/etc/init.d /etc/cron.d /etc/cron.daily /etc/cron.hourly /etc/cron.monthly /etc/cron.weekly /etc/logrotate.d /etc/systemd
	/etc/apparmor.d /etc/ufw /etc/init /etc/logcheck /etc/bash_completion.d /etc/rsyslog.d /etc/sudoers.d
`)

var programFolders = strings.Fields(`/bin /sbin /usr/bin /usr/sbin /usr/games /usr/local/bin /usr/local/sbin`)

// packages adds the files of the packages that the programs of the unit belong to.
func (c *collector) packages() {
	if len(c.mains) == 0 {
		return
	}
	if !c.isFolder(dpkgFolder) {
		for _, dir := range []string{"/usr/lib/sysimage/rpm", "/var/lib/rpm"} {
			if c.isFolder(dir) {
				c.uncovered("further files of the package of %s: the database of RPM is not read. `rpm -ql $(rpm -qf %s)` lists them", c.mains[0].asked, c.mains[0].asked)
				return
			}
		}
		return
	}
	owners, all := c.owners()
	seen := map[string]bool{}
	for _, at := range c.mains {
		name := owners[at.asked]
		switch {
		case name == "" && !all:
			name = "none"
			c.uncovered("%s belongs to none of the packages of Debian that were searched, so what was installed with it is not known", at.asked)
		case name == "":
			name = "none"
			c.uncovered("%s belongs to no package of Debian, so what was installed with it is not known", at.asked)
		case !seen[name]:
			c.packaged(name, at)
		}
		seen[name] = true
	}
}

// owners returns the package that has each of the programs, by the name of its list, and whether all
// packages were searched that can have the others.
func (c *collector) owners() (out map[string]string, all bool) {
	out = map[string]string{}
	lists, more := c.list(dpkgFolder, 16*maxPackages) // of each package there are several files
	if more {
		c.uncovered("more than %d packages: not all were searched", maxPackages)
	}
	read, unread := 0, 0
	for _, l := range lists {
		if !strings.HasSuffix(l, ".list") || len(out) == len(c.mains) || c.ctx.Err() != nil {
			continue
		}
		if read >= maxPackage {
			unread++
			continue
		}
		b, err := c.read(path.Join(dpkgFolder, l), 16*maxText)
		if read += len(b); err != nil {
			unread++
			continue
		}
		text := "\n" + string(b) + "\n"
		for _, at := range c.mains {
			for _, name := range []string{at.asked, at.real, strings.TrimPrefix(at.asked, "/usr"), strings.TrimPrefix(at.real, "/usr")} {
				if strings.Contains(text, "\n"+name+"\n") {
					out[at.asked] = l
				}
			}
		}
	}
	if unread > 0 {
		c.uncovered("%d lists of the files of packages were not searched: they could not be read, or come after the first %d MiB", unread, maxPackage>>20)
	}
	return out, unread == 0 && !more
}

// packaged adds the files of a package: a whole folder if it has files of this package alone.
func (c *collector) packaged(list string, main *place) {
	name := strings.TrimSuffix(list, ".list")
	name, _, _ = strings.Cut(name, ":")
	b, err := c.read(path.Join(dpkgFolder, list), 16*maxText)
	if err != nil {
		c.uncovered("the list of the package %s could not be read: %v", name, durable.Cause(err))
		return
	}
	var files []File
	have, folders := map[string]bool{}, []string{}
	var programs []string
	for line := range strings.Lines(string(b)) {
		p := strings.TrimRight(line, "\r\n")
		if !path.IsAbs(p) || len(p) > maxName || slices.ContainsFunc(unused, func(dir string) bool { return below(p, dir) }) {
			continue
		}
		p = c.usual(path.Clean(p))
		at, err := c.find(p)
		switch {
		case err != nil || at.real == main.real:
		case at.info.IsDir() && at.real == p && !shared(p):
			folders = append(folders, p)
		case !at.info.Mode().IsRegular():
		case slices.Contains(programFolders, path.Dir(p)) && !c.files[p]:
			programs = append(programs, p)
		default:
			have[p] = true
			files = append(files, File{Path: p, real: at.real})
		}
	}
	slices.Sort(folders) // those further up first
	why := "of the package " + name
	for _, dir := range folders {
		if c.whole(dir, have) {
			c.directory(dir, why, true)
		}
	}
	left := 0
	slices.SortFunc(files, byPath)
	for _, f := range files {
		switch {
		case c.out.covers(f.real):
		case left == maxPaths*2:
			c.uncovered("more than %d files of the package %s: list those that the program uses", maxPaths*2, name)
			return
		default:
			left++
			c.file(f.Path, groupPackage, why)
		}
	}
	if len(programs) > 0 {
		c.uncovered("other programs of the package %s: %s", name, some(programs, maxOthers))
	}
}

// whole reports whether a folder has files of one package alone, and more than one.
func (c *collector) whole(dir string, have map[string]bool) bool {
	found, todo := 0, []string{dir}
	for seen := 0; len(todo) > 0; todo = todo[1:] {
		entries, more, err := c.entries(todo[0], maxListed-seen)
		if err != nil || more {
			return false
		}
		seen += len(entries)
		for _, e := range entries {
			p := path.Join(todo[0], e.Name())
			switch {
			case e.IsDir():
				todo = append(todo, p)
			case !have[p]:
				return false
			default:
				found++
			}
		}
	}
	return found > 1
}

// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cvm-agentd/agentd/internal/apps/declaration"
	"github.com/cvm-agentd/agentd/internal/apps/manifest"
	"github.com/cvm-agentd/agentd/internal/durable"
	"github.com/cvm-agentd/agentd/internal/ima"
	"github.com/cvm-agentd/agentd/internal/imapolicy"
	"github.com/cvm-agentd/agentd/internal/unitfile"
	"github.com/cvm-agentd/agentd/pcr"
)

// Files of the kernel, for the policy of IMA.
const (
	imaFolder      = "sys/kernel/security/ima"
	imaPolicyFile  = imaFolder + "/policy"
	kernelCommands = "proc/cmdline"
)

// appFile is a file that an application declares, and how its processes use it.
type appFile struct {
	path string
	use  imapolicy.Use // without a user
}

// appFiles returns the regular files of an application below root. What cannot be looked at is left
// out: the measurement of the application says so. More files than the agent measures are an error.
func appFiles(ctx context.Context, root string, d *declaration.Declaration) (out []appFile, err error) {
	more := false
	add := func(name, at string) {
		f, ok := lookAtFile(at)
		if more = more || ok && len(out) == manifest.MaxFiles; ok && !more {
			f.path = filepath.Join(root, name)
			out = append(out, f)
		}
	}
	for _, name := range d.Files {
		if at, err := unitfile.Within(root, name); err == nil {
			add(name, at)
		}
	}
	for _, folder := range d.Directories {
		top, err := unitfile.Within(root, folder)
		if err != nil {
			continue
		}
		filepath.WalkDir(top, func(at string, e fs.DirEntry, err error) error {
			name := folder + strings.TrimPrefix(at, top)
			switch {
			case ctx.Err() != nil || more:
				return filepath.SkipAll
			case err != nil:
				return nil
			case d.Excludes(name) && e.IsDir():
				return filepath.SkipDir
			case e.Type().IsRegular() && !d.Excludes(name):
				add(name, at)
			}
			return nil
		})
	}
	if more {
		return nil, fmt.Errorf("it has more than %d files, and the agent does not measure an application of more: declare less, or several", manifest.MaxFiles)
	}
	return out, ctx.Err()
}

// lookAtFile finds out how a file is used: programs are executed, libraries are mapped, and all
// others are read. A device is not opened: that alone can have it do something.
func lookAtFile(path string) (appFile, bool) {
	if info, err := os.Stat(path); err != nil || !info.Mode().IsRegular() {
		return appFile{}, false
	}
	f, err := durable.OpenRegular(path)
	if err != nil {
		return appFile{}, false
	}
	defer f.Close()
	var st unix.Stat_t
	var on unix.Statfs_t
	if unix.Fstat(int(f.Fd()), &st) != nil || unix.Fstatfs(int(f.Fd()), &on) != nil {
		return appFile{}, false
	}
	magic := make([]byte, 4)
	n, _ := f.ReadAt(magic, 0)
	u := imapolicy.Use{Func: "FILE_CHECK", Mask: "MAY_READ", Owner: st.Uid, Group: st.Gid, FileSystem: uint32(on.Type)}
	switch elf := string(magic[:n]) == "\x7fELF"; {
	case st.Mode&0o111 != 0:
		u.Func, u.Mask = "BPRM_CHECK", "MAY_EXEC"
	case elf:
		u.Func, u.Mask = "MMAP_CHECK", "MAY_EXEC"
	}
	return appFile{path, u}, true
}

// runningPolicy returns the policy that the running kernel measures by, and its origin in
// words. The error says that there is none, or that it cannot be known.
func runningPolicy(root string) (*imapolicy.Policy, string, error) {
	if _, err := os.Stat(filepath.Join(root, imaFolder)); err != nil {
		return nil, "", fmt.Errorf("this kernel has no IMA, or securityfs is not mounted: %w", err)
	}
	b, err := durable.ReadFile(filepath.Join(root, imaPolicyFile), imapolicy.MaxPolicy)
	if err == nil {
		p, err := imapolicy.Parse(b)
		return p, "the kernel's policy, " + "/" + imaPolicyFile, err
	}
	line, err := os.ReadFile(filepath.Join(root, kernelCommands))
	if err != nil {
		return nil, "", err
	}
	p, word := imapolicy.Of(string(line))
	if word == "" {
		return p, "the kernel's command line, which has no ima_policy=tcb; a policy that was loaded later is not shown by this kernel", nil
	}
	return p, fmt.Sprintf("%s on the kernel's command line; a policy that was loaded later is not shown by this kernel", word), nil
}

// usersOf returns the uids of the processes of an application, by the passwd of its machine.
func usersOf(root string, d *declaration.Declaration) (out []uint32, err error) {
	if d.Dynamic {
		return nil, errors.New("systemd gives its user a uid at each start, which a policy cannot name")
	}
	names := []string{d.User}
	for _, u := range d.Users {
		names = append(names, u.User)
	}
	for _, name := range names {
		uid, err := unitfile.UID(root, name)
		if err != nil {
			return nil, err
		}
		out = append(out, uid)
	}
	return out, nil
}

// tellIMA says which files of an application the kernel measures by itself, and prints a policy for
// all that are declared.
func (t *terminal) tellIMA(ctx context.Context, root string, declared map[string]*declaration.Declaration, d *declaration.Declaration) error {
	t.tellQuoted(root)
	var all []imapolicy.App
	for _, name := range slices.Sorted(maps.Keys(declared)) {
		x := declared[name]
		files, err := appFiles(ctx, root, x)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		uids, wrong := usersOf(root, x)
		if err = cmp.Or(err, wrong); err != nil {
			fmt.Fprintf(t.err, "agentctl: note: %s is left out: %s\n", cleanLine(name), cleanLine(err.Error()))
			continue
		}
		if x == d {
			t.tellRunning(root, d, uids, files)
		}
		all = append(all, imapolicy.App{Name: name, UIDs: uids, Owners: ownersRead(files)})
	}
	fmt.Fprintf(t.out, "\nA policy that also measures what the declared applications read, for /etc/ima/ima-policy:\n\n%s\n", imapolicy.Fragment(all))
	t.tell("", "systemd loads that file at boot. Keep ima_policy=tcb on the command line: it measures what runs before. Each version of a file that an application reads becomes an entry; a file that is written while it is used becomes a violation.", 2)
	return nil
}

// tellRunning says which files of an application the policy of this kernel has measured.
func (t *terminal) tellRunning(root string, d *declaration.Declaration, uids []uint32, files []appFile) {
	if filepath.Clean(root) != "/" {
		t.tell("", "IMA: which policy that machine will run with is not known here.", 2)
		return
	}
	p, from, err := runningPolicy("/")
	if err != nil {
		t.tell("", fmt.Sprintf("IMA: %v. Nothing but the agent measures %s.", err, d.Name), 2)
		return
	}
	t.tellCovered(p, from, d.Name, uids, files)
}

// tellQuoted says if the agent does not quote the PCR of IMA.
func (t *terminal) tellQuoted(root string) {
	c, err := configBelow(root)
	if err != nil {
		return // the agent says so
	}
	s, err := pcr.ParseSelection(c.TPM.PCRs)
	if err == nil && !slices.ContainsFunc(s, func(b pcr.BankSelection) bool { return slices.Contains(b.PCRs, ima.PCR) }) {
		t.tell("", fmt.Sprintf("IMA: the agent does not quote PCR 10 (tpm.pcrs = %q), so evidence cannot contain the list.", c.TPM.PCRs), 2)
	}
}

// tellCovered says which files of an application a policy has measured.
func (t *terminal) tellCovered(p *imapolicy.Policy, from, name string, uids []uint32, files []appFile) {
	var missing, open []string
	for _, f := range files {
		answers := make(map[imapolicy.Answer]bool)
		for _, uid := range uids {
			use := f.use
			use.UID = uid
			answers[p.Measures(use)] = true
		}
		switch {
		case answers[imapolicy.No]:
			missing = append(missing, f.path)
		case answers[imapolicy.Unknown]:
			open = append(open, f.path)
		}
	}
	covered := len(files) - len(missing) - len(open)
	t.tell("", fmt.Sprintf("IMA: %d of %s of %s are measured when they are used, by %s.", covered, count(len(files), "file"), name, from), 2)
	if len(missing) > 0 {
		t.tell("", fmt.Sprintf("Not measured when %s uses them: %s.", name, firstOf(missing)), 2)
	}
	if len(open) > 0 {
		t.tell("", fmt.Sprintf("Not known, since the policy has conditions that are not understood here: %s.", firstOf(open)), 2)
	}
}

// firstOf spells out the first of many names.
func firstOf(names []string) string {
	const most = 5
	s := strings.Join(names[:min(len(names), most)], ", ")
	if more := len(names) - most; more > 0 {
		s += fmt.Sprintf(", and %d more", more)
	}
	return s
}

// ownersRead returns the owners of the files that are neither executed nor mapped.
func ownersRead(files []appFile) (out []uint32) {
	for _, f := range files {
		if f.use.Func == "FILE_CHECK" && !slices.Contains(out, f.use.Owner) {
			out = append(out, f.use.Owner)
		}
	}
	slices.SortFunc(out, cmp.Compare)
	return out
}

// SPDX-License-Identifier: Apache-2.0

package pcr

import (
	"cmp"
	"path"
	"slices"
	"strings"
)

// interpreters are the names of programs that run what their arguments or environment name. A
// version at the end of a file's name does not count: python3.12 is python. The last two lines are
// programs that start others.
var interpreters = strings.Fields(`
	ash awk bash beam.smp bun busybox csh dash deno dotnet elixir erl escript expect fish gawk gjs
	groovy guile iex irb java jruby jshell julia jython ksh lua luajit mawk mksh mono mono-sgen
	node nodejs nu octave-cli perl php php-cgi php-fpm pwsh pypy python qemu-system-x86_64 R racket
	raku rbx Rscript ruby sbcl scala sh swipl tclsh tcsh ts-node uv wish yash zsh
	chroot containerd-shim-runc-v crun docker dumb-init env flock gosu gunicorn nice nerdctl npm
	npx nsenter podman runc runuser s6-svscan setpriv setsid stdbuf su su-exec sudo supervisord
	systemd-nspawn timeout tini unshare uvicorn xargs
`)

// Interpreter returns the path of an interpreter if the manifest lists nothing else: no regular
// file but interpreters and shared libraries. What such an application does is then decided by
// files that no manifest covers. It returns "" for any other manifest. The dynamic loader is one
// of the libraries of an interpreter, and without any it is an interpreter itself: as a program it
// runs what its arguments name.
//
// This goes by the names of files ([interpreters], *.so and *.so.*), so it is a help and not a
// proof: a manifest that lists one more file need not cover what the interpreter runs.
func Interpreter(manifest []ManifestEntry) string {
	found, loader := "", ""
	for i := range manifest {
		e := &manifest[i]
		switch {
		case e.Mode&modeType != modeFile:
		case e.Executable() && isLoader(e.Path):
			loader = e.Path
		case isLibrary(e.Path):
		case e.Executable() && isInterpreter(e.Path):
			if found == "" {
				found = e.Path
			}
		default:
			return ""
		}
	}
	return cmp.Or(found, loader)
}

// isInterpreter reports whether the program at a path is an interpreter, by its name.
func isInterpreter(file string) bool {
	name := path.Base(file)
	return slices.Contains(interpreters, name) || slices.Contains(interpreters, strings.TrimRight(strings.TrimSuffix(name, "-dbg"), "0123456789.-"))
}

// isLoader reports whether a file is the dynamic loader.
func isLoader(file string) bool {
	return slices.ContainsFunc([]string{"ld-*.so", "ld-*.so.*", "ld64.so.*", "ld.so.*"}, func(pattern string) bool {
		match, _ := path.Match(pattern, path.Base(file)) // these patterns are well-formed
		return match
	})
}

// isLibrary reports whether a file is a shared library, the dynamic loader among them.
func isLibrary(file string) bool {
	name := path.Base(file)
	return strings.HasSuffix(name, ".so") || strings.Contains(name, ".so.")
}

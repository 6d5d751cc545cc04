// SPDX-License-Identifier: Apache-2.0

package pcr

import "testing"

// TestInterpreter: a manifest that lists an interpreter and not what it runs is found, and one that
// lists more is not (case 110).
func TestInterpreter(t *testing.T) {
	type file struct {
		path string
		mode uint32
	}
	const program, plain, link = 0o100755, 0o100644, 0o120777
	for name, c := range map[string]struct {
		files []file
		want  string
	}{
		"java":                {[]file{{"/etc/alternatives/java", link}, {"/usr/bin/java", link}, {"/usr/lib/jvm/java-17-openjdk-amd64/bin/java", program}}, "/usr/lib/jvm/java-17-openjdk-amd64/bin/java"},
		"java and its jar":    {[]file{{"/opt/app.jar", plain}, {"/usr/lib/jvm/bin/java", program}}, ""},
		"node":                {[]file{{"/usr/bin/node", program}}, "/usr/bin/node"},
		"Python":              {[]file{{"/usr/bin/python3", link}, {"/usr/bin/python3.12", program}}, "/usr/bin/python3.12"},
		"Python, for debug":   {[]file{{"/usr/bin/python3.12-dbg", program}}, "/usr/bin/python3.12-dbg"},
		"shell":               {[]file{{"/bin/sh", link}, {"/usr/bin/dash", program}}, "/usr/bin/dash"},
		"busybox":             {[]file{{"/bin/busybox", program}}, "/bin/busybox"},
		"env and perl":        {[]file{{"/usr/bin/env", program}, {"/usr/bin/perl5.36.0", program}}, "/usr/bin/env"},
		"with libraries":      {[]file{{"/lib/x86_64-linux-gnu/libc.so.6", program}, {"/lib64/ld-linux-x86-64.so.2", program}, {"/usr/bin/php8.2", program}, {"/usr/lib/x.so", plain}}, "/usr/bin/php8.2"},
		"loader":              {[]file{{"/lib64/ld-linux-x86-64.so.2", program}, {"/lib/libc.so.6", program}}, "/lib64/ld-linux-x86-64.so.2"},
		"loader of musl":      {[]file{{"/lib/ld-musl-x86_64.so.1", program}}, "/lib/ld-musl-x86_64.so.1"},
		"loader of old":       {[]file{{"/lib64/ld64.so.2", link}, {"/lib/ld-2.31.so", program}}, "/lib/ld-2.31.so"},
		"loader and program":  {[]file{{"/lib64/ld-linux-x86-64.so.2", program}, {"/usr/bin/billing", program}}, ""},
		"loader as data":      {[]file{{"/lib64/ld-linux-x86-64.so.2", plain}}, ""},
		"container":           {[]file{{"/usr/bin/docker", program}}, "/usr/bin/docker"},
		"script":              {[]file{{"/opt/run.sh", program}, {"/usr/bin/bash", program}}, ""},
		"a program":           {[]file{{"/usr/bin/billing", program}}, ""},
		"name of one, data":   {[]file{{"/usr/share/python3", plain}}, ""},
		"one that begins so":  {[]file{{"/usr/bin/javac", program}}, ""},
		"libraries alone":     {[]file{{"/lib/libc.so.6", program}}, ""},
		"links alone":         {[]file{{"/bin/sh", link}}, ""},
		"nothing":             {nil, ""},
		"configuration":       {[]file{{"/etc/app.conf", plain}, {"/usr/bin/node", program}}, ""},
		"a name of digits":    {[]file{{"/opt/7", program}}, ""},
		"not a library's end": {[]file{{"/opt/lib.so.d/run", program}, {"/usr/bin/node", program}}, ""},
	} {
		var manifest []ManifestEntry
		for _, f := range c.files {
			manifest = append(manifest, ManifestEntry{Path: f.path, Mode: f.mode})
		}
		if got := Interpreter(manifest); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

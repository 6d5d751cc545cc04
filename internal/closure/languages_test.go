// SPDX-License-Identifier: Apache-2.0

package closure

import (
	"archive/zip"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/internal/unitfile"
)

// jarOf returns an archive with a manifest, as large as wanted.
func jarOf(t *testing.T, manifest string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	f, err := w.Create("META-INF/MANIFEST.MF")
	if err == nil {
		_, err = f.Write([]byte(manifest))
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestCommandLines: what a unit starts is followed over interpreters, starters and arguments. Each row
// is a machine with the programs and files that its command names.
func TestCommandLines(t *testing.T) {
	program := &elfFile{}
	python := map[string]any{"usr/bin/python3@": "python3.11", "usr/bin/python3.11": program, "usr/lib/python3.11/os.py": "x", "usr/lib/python3.11/lib-dynload/_ssl.so": &elfFile{needed: []string{"libssl.so.3"}}, "usr/lib/libssl.so.3": &elfFile{}}
	java := map[string]any{"usr/bin/java@": "/usr/lib/jvm/j17/bin/java", "usr/lib/jvm/j17/bin/java": &elfFile{}, "usr/lib/jvm/j17/lib/server/libjvm.so": &elfFile{}, "usr/lib/jvm/j17/lib/modules": "x"}
	node := map[string]any{"usr/bin/node": program}
	for name, c := range map[string]struct {
		unit        string
		files       map[string]any
		base        map[string]any
		want        []string // files that are listed
		directories []string
		says        []string // of what is not covered
	}{
		"all commands": {unit: "ExecStartPre=-/opt/pre\nExecStart=/opt/a\nExecStart=/opt/b ; /opt/c\nExecStartPost=+/opt/post\nExecReload=/opt/reload $MAINPID\nExecStop=/opt/gone\nType=oneshot",
			files: map[string]any{"opt/pre": program, "opt/a": program, "opt/b": program, "opt/c": program, "opt/post": program, "opt/reload": program},
			want:  []string{"/opt/pre", "/opt/a", "/opt/b", "/opt/c", "/opt/post", "/opt/reload"}, says: []string{"ExecStop=/opt/gone", "the variable MAINPID in ExecReload="}},
		"configuration": {unit: "Environment=CONF=/etc/a.conf MORE=/etc/more.conf\nExecStart=/opt/a --config=/etc/b.conf -f /etc/c.conf -d/etc/d.conf --where /etc/a.d --data /var/lib/a ${MORE} relative.conf --gone=/etc/gone.conf\nWorkingDirectory=/srv/a",
			files: map[string]any{"opt/a": program, "etc/a.conf": "", "etc/more.conf": "", "etc/b.conf": "", "etc/c.conf": "", "etc/d.conf": "", "etc/a.d/x": "", "var/lib/a/x": "", "srv/a/relative.conf": ""},
			want:  []string{"/etc/a.conf", "/etc/b.conf", "/etc/c.conf", "/etc/d.conf", "/etc/more.conf", "/srv/a/relative.conf"}, directories: []string{"/etc/a.d"}, says: []string{"the folder /var/lib/a ", "/etc/gone.conf does not exist"}},
		"variables of all units": {unit: "ExecStart=/opt/a", files: map[string]any{"opt/a": program, "etc/systemd/system.conf": "[Manager]\n#DefaultEnvironment=\nDefaultEnvironment=\n", "usr/lib/systemd/system.conf.d/50-x.conf": "[Manager]\n DefaultEnvironment = LD_PRELOAD=/opt/x.so\n"},
			want: []string{"/opt/a"}, says: []string{"/usr/lib/systemd/system.conf.d/50-x.conf sets variables for all units"}},
		"script of a script":  {unit: "ExecStart=/opt/run x", files: map[string]any{"opt/run": "#!/opt/middle -v \nx", "opt/middle": "#! /opt/inner\n", "opt/inner": program}, want: []string{"/opt/run", "/opt/middle", "/opt/inner"}},
		"env -S":              {unit: "ExecStart=/opt/run", files: map[string]any{"opt/run": "#!/usr/bin/env -S A=b /opt/real\\_x --config=\"/etc/x y\"\n", "usr/bin/env": program, "opt/real": "", "opt/real x": "", "etc/x y": ""}, base: map[string]any{"opt/real": program}, want: []string{"/usr/bin/env", "/opt/real", "/etc/x y"}},
		"starters":            {unit: "ExecStart=/usr/bin/nice -n 5 /usr/bin/setpriv --reuid 7 tool --x=/etc/x", files: map[string]any{"usr/bin/nice": program, "usr/bin/setpriv": program, "usr/bin/tool": program, "etc/x": ""}, want: []string{"/usr/bin/nice", "/usr/bin/setpriv", "/usr/bin/tool", "/etc/x"}},
		"starters in circles": {unit: "ExecStart=/usr/bin/nice nice nice nice nice nice nice nice nice nice nice nice x", files: map[string]any{"usr/bin/nice": program}, want: []string{"/usr/bin/nice"}, says: []string{"is not followed further"}},
		"command line":        {unit: `ExecStart=/bin/sh -c "exec /opt/a --config /etc/x >/dev/null"`, files: map[string]any{"bin/sh": program, "opt/a": program, "etc/x": ""}, want: []string{"/bin/sh", "/opt/a", "/etc/x"}, says: []string{"only what it names by absolute paths"}},
		"shell script":        {unit: "ExecStart=/opt/run.sh /etc/x", files: map[string]any{"opt/run.sh": "#!/bin/sh -e\n. /etc/y", "bin/sh": program, "etc/x": ""}, want: []string{"/opt/run.sh", "/bin/sh", "/etc/x"}, says: []string{"what the script /opt/run.sh runs"}},
		"interpreter only":    {unit: "ExecStart=/usr/bin/perl -e 1", files: map[string]any{"usr/bin/perl": program}, want: []string{"/usr/bin/perl"}, says: []string{"interpreter only: /usr/bin/perl"}},
		"not a program":       {unit: "ExecStart=/opt/text", files: map[string]any{"opt/text": "text"}, want: []string{"/opt/text"}, says: []string{"binfmt_misc"}},

		"Python script":     {unit: "ExecStart=/usr/bin/python3 -u -W ignore /opt/app/main.py --port 7", base: python, files: map[string]any{"opt/app/main.py": "", "opt/app/more.py": ""}, want: []string{"/usr/bin/python3", "/opt/app/main.py", "/usr/lib/libssl.so.3"}, directories: []string{"/opt/app", "/usr/lib/python3.11"}, says: []string{"PYTHONDONTWRITEBYTECODE"}},
		"Python module":     {unit: "WorkingDirectory=/srv/app\nEnvironment=PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=/opt/more\nExecStart=python3 -Bm service", base: python, files: map[string]any{"srv/app/service.py": "", "opt/more/x.py": ""}, directories: []string{"/opt/more", "/srv/app", "/usr/lib/python3.11"}},
		"Python command":    {unit: "ExecStart=/usr/bin/python3 -c pass", base: python, directories: []string{"/usr/lib/python3.11"}, says: []string{"the program of Python on the command line"}},
		"Python in usr/bin": {unit: "ExecStart=/usr/bin/tool", base: python, files: map[string]any{"usr/bin/tool": "#!/usr/bin/python3 -I\n"}, want: []string{"/usr/bin/tool"}, directories: []string{"/usr/lib/python3.11"}},
		"virtual environment": {unit: "ExecStart=/opt/venv/bin/gunicorn app:app --config /etc/g.py", base: python, files: map[string]any{
			"opt/venv/bin/gunicorn": "#!/opt/venv/bin/python3\n", "opt/venv/bin/python3@": "/usr/bin/python3", "opt/venv/pyvenv.cfg": "home = /usr/bin\ninclude-system-site-packages = true\n", "etc/g.py": "",
			"opt/venv/lib/python3.11/site-packages/x.pth": "# comment\n/opt/editable\n../../../../outside\n/nowhere\nimport evil\n", "opt/editable/e.py": "", "opt/outside/o.py": "", "usr/lib/python3/dist-packages/d.py": ""},
			want: []string{"/etc/g.py", "/opt/venv/bin/gunicorn"}, directories: []string{"/opt/editable", "/opt/outside", "/opt/venv", "/usr/lib/python3.11", "/usr/lib/python3/dist-packages"}, says: []string{"x.pth has code"}},

		"Java archive": {unit: "ExecStart=/usr/bin/java -Xmx1g -javaagent:/opt/agent.jar=x -jar /opt/app/app.jar --config=/etc/app.yml", base: java, files: map[string]any{
			"opt/agent.jar": jarOf(t, ""), "etc/app.yml": "", "opt/app/app.jar": jarOf(t, "Manifest-Version: 1.0\r\nClass-Path: lib/a.jar li\r\n b/b%20c.jar /opt/abs.jar\r\n  http://host/x.jar\r\n\r\nClass-Path: no.jar\r\n"),
			"opt/app/lib/a.jar": jarOf(t, "Class-Path: deep.jar ../app.jar\n"), "opt/app/lib/deep.jar": jarOf(t, "x: y\n"), "opt/app/lib/b c.jar": jarOf(t, ""), "opt/abs.jar": "not an archive"},
			want: []string{"/usr/bin/java", "/opt/agent.jar", "/opt/app/app.jar", "/opt/app/lib/a.jar", "/opt/app/lib/deep.jar", "/opt/app/lib/b c.jar", "/opt/abs.jar", "/etc/app.yml"}, directories: []string{"/usr/lib/jvm/j17"}, says: []string{"the manifest of /opt/abs.jar could not be read"}},
		"Java class path": {unit: "ExecStart=/usr/bin/java @/opt/args com.example.Main /etc/x", base: java, files: map[string]any{"opt/args": "-cp \"/opt/lib/*:/opt/classes\"\n--module-path=/opt/mods", "opt/lib/a.jar": jarOf(t, ""), "opt/lib/no.txt": "", "opt/classes/x": "", "opt/mods/m": "", "etc/x": ""},
			want: []string{"/opt/args", "/opt/lib/a.jar", "/etc/x"}, directories: []string{"/opt/classes", "/opt/mods", "/usr/lib/jvm/j17"}, says: []string{"put into /opt/lib later"}},
		"Java by variables": {unit: "Environment=CLASSPATH=/opt/c.jar JAVA_TOOL_OPTIONS=-agentpath:/opt/agent.so\nExecStart=/usr/bin/java Main", base: java, files: map[string]any{"opt/c.jar": jarOf(t, ""), "opt/agent.so": &elfFile{}}, want: []string{"/opt/c.jar", "/opt/agent.so"}, directories: []string{"/usr/lib/jvm/j17"}},
		"Java with a file of options": {unit: "Environment=JAVA_TOOL_OPTIONS=-XX:Flags=/etc/flags\nExecStart=/usr/bin/java -XX:VMOptionsFile=/etc/vm -jar /opt/a.jar", base: java, files: map[string]any{"opt/a.jar": jarOf(t, ""), "etc/vm": "-javaagent:/opt/evil.jar", "etc/flags": ""},
			want: []string{"/etc/vm", "/etc/flags", "/opt/a.jar"}, directories: []string{"/usr/lib/jvm/j17"}, says: []string{"the options of Java in /etc/vm are not followed", "the options of Java in /etc/flags are not followed"}},
		"Java, no runtime": {unit: "ExecStart=/opt/java", files: map[string]any{"opt/java": program}, says: []string{"libjvm.so) is not found", "the classes that /opt/java runs"}},

		"Node": {unit: "ExecStart=/usr/bin/node --max-old-space-size=99 -r /opt/w/pre.js /opt/w/app/bin/server --config /etc/x.json", base: node, files: map[string]any{
			"opt/w/pre.js": "", "opt/w/app/bin/server.js": "", "opt/w/app/package.json": "", "opt/w/app/node_modules/a/index.js": "", "opt/w/app/node_modules/b/x.node": &elfFile{}, "opt/w/node_modules/c/index.js": "", "etc/x.json": ""},
			want: []string{"/opt/w/pre.js", "/opt/w/app/bin/server.js", "/etc/x.json"}, directories: []string{"/opt/w/app", "/opt/w/node_modules"}},
		"Node, no package": {unit: "ExecStart=/usr/bin/node /opt/server.js", base: node, files: map[string]any{"opt/server.js": ""}, want: []string{"/opt/server.js"}, says: []string{"which other programs share"}},
		"Node, a command":  {unit: "ExecStart=/usr/bin/node -e 1", base: node, says: []string{"the program of Node on the command line"}},
	} {
		t.Run(name, func(t *testing.T) {
			files := map[string]any{unit: "[Service]\n" + c.unit + "\n"}
			for _, from := range []map[string]any{c.files, c.base} {
				for path, content := range from {
					files[path] = content
				}
			}
			p := proposed(t, machine(t, files))
			got, said := p.paths(""), strings.Join(p.Uncovered, "\n")
			for _, f := range c.want {
				if !slices.Contains(got, f) {
					t.Errorf("%s is not listed: %q\n%s", f, got, said)
				}
			}
			if dirs := p.folders(); !slices.Equal(dirs, c.directories) {
				t.Errorf("folders %q, want %q\n%s", dirs, c.directories, said)
			}
			for _, words := range c.says {
				if !strings.Contains(said, words) {
					t.Errorf("does not say %q:\n%s", words, said)
				}
			}
			if c.says == nil && strings.Contains(said, "not found") {
				t.Errorf("says\n%s", said)
			}
		})
	}
}

// onThisMachine proposes the declaration of a unit of this machine, whose files are below folders
// that a boot would empty.
func onThisMachine(t *testing.T, settings string) *Proposal {
	t.Helper()
	defer func(before []string) { emptied = before }(emptied)
	emptied = nil
	s, err := unitfile.Load(machine(t, map[string]any{unit: "[Service]\n" + settings + "\n"}), "a.service")
	if err != nil {
		t.Fatal(err)
	}
	s.Files = nil
	p, err := Propose(t.Context(), "/", s, nil)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestVirtualEnvironment: what a real Python loads in a real virtual environment is covered: the files
// of its modules, and the libraries that it has mapped.
func TestVirtualEnvironment(t *testing.T) {
	python := "/usr/bin/python3"
	if _, err := os.Stat(python); err != nil {
		t.Skip("/usr/bin/python3 is not installed")
	}
	dir := t.TempDir()
	venv, script := filepath.Join(dir, "venv"), filepath.Join(dir, "app", "main.py")
	if out, err := exec.CommandContext(t.Context(), python, "-m", "venv", "--without-pip", venv).CombinedOutput(); err != nil {
		t.Skipf("this Python makes no virtual environment: %v: %s", err, out)
	}
	const text = `
import sys, ssl, json, ctypes, helper, packed
for m in list(sys.modules.values()):
    f = getattr(m, "__file__", None)
    if f: print(f)
for line in open("/proc/self/maps"):
    f = line.split(None, 5)
    if len(f) == 6 and f[5].startswith("/") and "x" in f[1]: print(f[5].strip())
`
	site, err := filepath.Glob(venv + "/lib/python3*/site-packages")
	if err != nil || len(site) != 1 {
		t.Fatal(site, err)
	}
	for file, content := range map[string]string{script: text, filepath.Join(dir, "app", "helper.py"): "", filepath.Join(dir, "far", "packed.py"): "", filepath.Join(site[0], "far.pth"): filepath.Join(dir, "far") + "\n"} {
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), filepath.Join(venv, "bin/python3"), "-B", script)
	cmd.Env = []string{"PATH=/usr/bin:/bin"}
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	p := onThisMachine(t, "ExecStart="+filepath.Join(venv, "bin/python3")+" -B "+script)
	used := 0
	for _, f := range strings.Fields(string(out)) {
		used++
		if f = real(t, f); !p.covers(f) {
			t.Errorf("%s is not covered", f)
		}
	}
	if used < 50 {
		t.Errorf("it used only %d files", used)
	}
	t.Logf("%d files used, %d declared", used, p.Entries)
}

// TestNodeRuns: what a real Node loads for a real script is covered.
func TestNodeRuns(t *testing.T) {
	node, err := exec.LookPath("node")
	if err != nil {
		t.Skip("node is not installed")
	}
	dir := t.TempDir()
	for file, content := range map[string]string{
		"w/app/package.json": "{}", "w/app/lib/part.js": "", "w/app/node_modules/near/index.js": "", "w/node_modules/far/index.js": "",
		"w/app/bin/server.js": `require("../lib/part"); require("near"); require("far"); Object.keys(require.cache).forEach(f => console.log(f))`,
	} {
		full := filepath.Join(dir, file)
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(full, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	script := filepath.Join(dir, "w/app/bin/server.js")
	out, err := exec.CommandContext(t.Context(), node, script).Output()
	if err != nil {
		t.Skipf("this Node does not run: %v", err)
	}
	p := onThisMachine(t, "ExecStart="+node+" "+script)
	files := strings.Fields(string(out))
	for _, f := range files {
		if !p.covers(real(t, f)) {
			t.Errorf("%s is not covered: %q, %q", f, p.folders(), p.Uncovered)
		}
	}
	if len(files) != 4 {
		t.Errorf("it loaded %q", files)
	}
}

// TestClassPath: hostile archives are errors, and take no memory.
func TestClassPath(t *testing.T) {
	read := func(b []byte) ([]string, error) { return classPath(bytes.NewReader(b), int64(len(b))) }
	if got, err := read(jarOf(t, "class-path: a.jar file:///b.jar //host/c.jar http:d.jar %zz e%00f \n g.jar\n")); err != nil || !slices.Equal(got, []string{"a.jar", "/b.jar", "g.jar"}) {
		t.Errorf("read %q, %v", got, err)
	}
	if got, err := read(jarOf(t, "Class-Path: "+strings.Repeat("x ", maxText/2-10))); err == nil || len(got) != maxPaths {
		t.Errorf("read %d, %v", len(got), err)
	}
	if got, err := read(jarOf(t, strings.Repeat("x", maxText+1))); err == nil {
		t.Errorf("large manifest: %d", len(got))
	}
	if got, err := classPath(bytes.NewReader(nil), maxArchive+1); err == nil {
		t.Errorf("large archive: %d", len(got))
	}
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for i := range 20_000 {
		if _, err := w.CreateHeader(&zip.FileHeader{Name: fmt.Sprint(i), Comment: strings.Repeat("x", 1000)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if got, err := read(b.Bytes()); err == nil || !strings.Contains(err.Error(), "list of files") {
		t.Errorf("long list of files: %q, %v", got, err)
	}
}

// FuzzClassPath: no panic; paths are few and short.
func FuzzClassPath(f *testing.F) {
	f.Add([]byte("PK\x05\x06" + strings.Repeat("\x00", 18)))
	f.Add([]byte("Class-Path: a.jar\n  b.jar\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		list, _ := classPath(bytes.NewReader(b), int64(len(b)))
		for _, p := range append(list, manifestPaths(string(b))...) {
			if p == "" || len(p) > maxName || strings.ContainsRune(p, 0) {
				t.Fatalf("%q", p)
			}
		}
	})
}

// FuzzText: no panic in the readers of lines, and what they return has the limits: files of variables,
// .pth files, the first lines of scripts, maps.
func FuzzText(f *testing.F) {
	f.Add("A=b\n# c\nD='e f'\\\n g\n")
	f.Add("import x\n/opt/a\n\ufeff")
	f.Add("-S a\\_b 'c d' #e")
	f.Add("00400000-00452000 r-xp 00000000 08:02 173521      /usr/bin/dbus daemon (deleted)")
	f.Fuzz(func(t *testing.T, s string) {
		for _, a := range assignments(s) {
			if !variable(a.name) {
				t.Fatalf("variable %q", a.name)
			}
		}
		paths, _ := pathLines(s)
		if len(paths) > maxPaths || len(splitString(s)) > len(s) {
			t.Fatal("too much")
		}
		if m, ok := mapping(s); ok && strings.HasPrefix(m.path, " ") {
			t.Fatalf("path %q", m.path)
		}
		pythonArguments(strings.Fields(s))
		javaArguments(strings.Fields(s))
		nodeArguments(strings.Fields(s))
	})
}

// TestAssignments: a file of variables is read as systemd does.
func TestAssignments(t *testing.T) {
	for text, want := range map[string][]assignment{
		"A=b\nC=d e \n":               {{"A", "b"}, {"C", "d e"}},
		"# A=b\n; C=d\n  E = f\n":     {{"E", "f"}},
		"A='b \"c' \nD=\"e 'f\"\n":    {{"A", "b \"c"}, {"D", "e 'f"}},
		"A=b\\\nc\n":                  {{"A", "bc"}},
		"A=\"b\nc\"\nD=e":             {{"A", "b\nc"}, {"D", "e"}},
		"A\nB=c\n1=x\nB-C=x\n":        {{"B", "c"}},
		"A=\n\nB=\"\"\nC=\"x\"y'z'\n": {{"A", ""}, {"B", ""}, {"C", "xyz"}},
		`A="a\"b\n"`:                  {{"A", `a"b\n`}},
	} {
		if got := assignments(text); !slices.Equal(got, want) {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

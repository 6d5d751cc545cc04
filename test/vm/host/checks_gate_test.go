// SPDX-License-Identifier: Apache-2.0

package host

import (
	"fmt"
	"strconv"
	"strings"
)

// gated prints what the log says of the gate, one line for each record.
const gated = `agentctl log --json | jq -r '.records[].event | select(.gateStart or .gateGap or .exec) | .type + " " + ((.gateStart.apps // []) | map(.app) | join(",")) + (.exec.path // "") + (.gateGap.app // "")'`

// gateTool makes programs that say a word, and are what they say; gives a file fs-verity; swaps two
// programs until a file is there; and measures how long a program takes to start and to end.
const gateTool = `cat >/root/tool.py <<'END'
import fcntl, os, struct, sys, time
def speaker(path, word):
    w = word.encode() + b"\n"
    code = b"\xb8\x01\0\0\0\xbf\x01\0\0\0\x48\xbe" + struct.pack("<Q", 0x400000 + 156) + b"\xba" + struct.pack("<I", len(w)) + b"\x0f\x05\xb8\x3c\0\0\0\x31\xff\x0f\x05"
    n = 120 + len(code) + len(w)
    with open(path + ".made", "wb") as f:
        f.write(b"\x7fELF\2\1\1" + bytes(9) + struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, 0x400078, 64, 0, 0, 64, 56, 1, 0, 0, 0))
        f.write(struct.pack("<IIQQQQQQ", 1, 5, 0, 0x400000, 0x400000, n, n, 0x10000) + code + w)
    os.chmod(path + ".made", 0o755)
    os.rename(path + ".made", path)
def verity(path):
    fd = os.open(path, os.O_RDONLY)
    fcntl.ioctl(fd, 0x40806685, struct.pack("<IIIIQIIQ88x", 1, 1, 4096, 0, 0, 0, 0, 0))
    os.close(fd)
def swap(folder, stop):
    n = 0
    while n < 10000 or not os.path.exists(stop):
        for word in "ab":
            os.link(folder + "/" + word, folder + "/new")
            os.rename(folder + "/new", folder + "/name")
            try:
                os.remove(folder + "/new")  # rename does nothing if both are one file
            except FileNotFoundError:
                pass
            n += 1
    print(n)
def starts(*paths):
    took = {p: [] for p in paths}
    for i in range(60):
        for p in paths:
            took[p].append(start(p))
    return [sorted(took[p])[30] for p in paths]
def start(path):
    begin = time.monotonic()
    os.waitpid(os.posix_spawn(path, [path], {}, file_actions=[(os.POSIX_SPAWN_OPEN, 1, "/dev/null", os.O_WRONLY, 0)]), 0)
    return time.monotonic() - begin
def many(folder):
    os.mkdir(folder)
    for i in range(11):
        speaker(folder + "/%d" % i, "x" * 1000000)
def cost(guarded, plain):
    known, verity = [starts(guarded + "/" + f, plain + "/" + f) for f in ("quick", "verity")]
    first = [sorted(t)[5] for t in zip(*[(start(guarded + "/many/%d" % i), start(plain + "/many/%d" % i)) for i in range(11)])]
    for word, (g, p) in ("known", known), ("fs-verity", verity), ("first", first):
        print(word, g * 1e3, p * 1e3, g / p)
{"speaker": speaker, "verity": verity, "swap": swap, "many": many, "cost": cost}[sys.argv[1]](*sys.argv[2:])
END
`

// gateGuards has the gate guard an application of its own, under the package's units, and checks
// what starts: by a script, by the dynamic loader, with fs-verity, and without an agent (case 126).
func (s *session) gateGuards() {
	s.run(gateTool + `set -e; mkdir -p /opt/gated/lib && cp /bin/true /opt/gated/program && cp /bin/true /opt/gated/lib/helper && printf '#!/bin/sh\ntrue\n' >/opt/gated/script && chmod +x /opt/gated/script
printf '[Service]\nType=oneshot\nExecStart=/opt/gated/program\n' >/etc/systemd/system/gated.service
printf 'unit = "gated.service"\nuser = "root"\ndirectories = ["/opt/gated"]\ngate = "enforce"\n' >/etc/agentd/apps.d/gated.toml
systemctl daemon-reload; agentctl app enable gated.service --yes; ! systemctl is-enabled agentd-gate.service && ! systemctl is-active agentd-gate.service`)
	// The drop-in starts the gate, which guards the application before its program starts.
	s.run("systemctl start gated.service")
	s.want("systemctl is-active agentd-gate.service", "active")
	s.want(gated, "gate-start gated\n")
	s.want("agentctl status", "gate: asked for by 1 application, guards 1")
	out := strings.TrimSpace(s.run("systemd-analyze security agentd-gate.service | grep -o 'exposure level for agentd-gate.service: [0-9.]*' | grep -o '[0-9.]*$'"))
	if score, err := strconv.ParseFloat(out, 64); err != nil || score > 2 {
		s.t.Fatalf("exposure of agentd-gate.service is %q, want at most 2", out)
	}
	s.run("/opt/gated/program && /opt/gated/lib/helper && /opt/gated/script && sh /opt/gated/script && systemctl start gated.service")

	// What the manifest did not list when it was asked for does not start; the loader hides it.
	s.run("cp /bin/echo /opt/gated/other")
	s.fails("/opt/gated/other hidden", "Operation not permitted")
	s.eventually(gated + " | grep '^exec /opt/gated/other$'")
	s.want("$(ls /lib64/ld-linux-x86-64.so.2) /opt/gated/other hidden", "hidden")
	s.run("agentctl measure --app gated")
	s.want("/opt/gated/other known", "known")

	// fs-verity: a program starts by its content, and another one in its place does not.
	s.run("set -e; cd /opt/gated; python3 /root/tool.py speaker good good; python3 /root/tool.py verity good; agentctl measure --app gated")
	s.want("/opt/gated/good && /opt/gated/good", "good\ngood")
	s.run("set -e; cd /opt/gated; python3 /root/tool.py speaker evil evil; python3 /root/tool.py verity evil; mv evil good")
	s.fails("/opt/gated/good", "Operation not permitted")

	// The agent restarts: the gate goes on, and nothing is a gap.
	s.run("agentctl measure --app gated; systemctl restart agentd")
	s.eventually("agentctl log --json | jq -e '[.records[].event.gateStart | select(. != null)] | last | .carried'")
	s.want(gated+" | grep -c '^gate-gap' || true", "0")
	s.run("/opt/gated/program")

	s.gateCosts()
	s.gateEnds()
}

// gateCosts compares the start of a program that is guarded with that of the same program elsewhere,
// each the median of many starts in this run: its digest is known, it has fs-verity, or it is read for
// the first time, with a megabyte. The programs end at once, so the gate's share is as large as it can be.
func (s *session) gateCosts() {
	s.run(`set -e; mkdir -p /root/plain; for folder in /opt/gated /root/plain; do cd $folder; for program in quick verity; do python3 /root/tool.py speaker $program word; done; python3 /root/tool.py verity verity; python3 /root/tool.py many many; done; agentctl measure --app gated`)
	rows := strings.Split(strings.TrimSpace(s.run("python3 /root/tool.py cost /opt/gated /root/plain")), "\n")
	if len(rows) != 3 {
		s.t.Fatalf("%q", rows)
	}
	for _, row := range rows {
		var kind string
		var guarded, plain, ratio float64
		if _, err := fmt.Sscan(row, &kind, &guarded, &plain, &ratio); err != nil {
			s.t.Fatalf("%q: %v", row, err)
		}
		s.t.Logf("a start, %s: guarded %.2f ms, elsewhere %.2f ms (emulated), ratio %.2f", kind, guarded, plain, ratio)
		if kind != "first" && ratio > 10 {
			s.t.Errorf("%s: a start takes %.1f times as long with the gate", kind, ratio)
		}
	}
	s.run("rm -r /root/plain /opt/gated/many; agentctl measure --app gated")
}

// gateSwaps renames two programs over each other's name, 10,000 times and more, while the name is
// started (cases 12 and 126). Each round is of an application of its own: one that changes so often is
// not measured again for minutes.
func (s *session) gateSwaps() {
	swaps := func(app string) (words, swaps string) {
		out := s.run(`set -e; cd /opt/` + app + `; rm -f /root/stop; python3 /root/tool.py swap . /root/stop >/root/swaps & end=$(($(date +%s) + 90)) n=0
while [ $(date +%s) -lt $end ] && [ $n -lt 200 ]; do ./name 2>/dev/null || echo refused; n=$((n+1)); done | sort | uniq -c | tr -s ' \n' ' '
touch /root/stop; wait; echo; cat /root/swaps`)
		lines := strings.Split(strings.TrimSpace(out), "\n")
		if n, err := strconv.Atoi(lines[len(lines)-1]); err != nil || n < 10000 || len(lines) != 2 {
			s.t.Fatalf("want 10000 swaps at least: %v\n%s", err, out)
		}
		return lines[0], lines[1]
	}
	declare := func(app, gate string) {
		s.run(fmt.Sprintf(`set -e; mkdir -p /opt/%[1]s; printf '[Service]\nExecStart=/opt/%[1]s/name\n' >/etc/systemd/system/%[1]s.service; systemctl daemon-reload
cd /opt/%[1]s; python3 /root/tool.py speaker a listed; ln a name
printf 'unit = "%[1]s.service"\nuser = "root"\ndirectories = ["/opt/%[1]s"]\ngate = %[2]s\n' >/etc/agentd/apps.d/%[1]s.toml; agentctl app reload >/dev/null; agentctl measure --app %[1]s >/dev/null`, app, gate))
	}
	s.run(gateTool + `set -e; systemctl start agentd-gate.service; python3 /root/tool.py speaker /root/b unlisted`)

	// The manifest that was asked for lists a alone: b does not run once.
	declare("refused", `"enforce"`)
	s.want("/opt/refused/name; cp /root/b /opt/refused/b", "listed")
	words, n := swaps("refused")
	s.t.Logf("enforced, %s swaps: %s", n, words)
	if strings.Contains(words, "unlisted") || !strings.Contains(words, "refused") {
		s.t.Errorf("a program that is not listed ran, or was not tried: %s", words)
	}

	// Without that, whatever ran is in the log, and no record names other bytes.
	declare("swapped", "true")
	s.want("/opt/swapped/name; cp /root/b /root/whole && mv /root/whole /opt/swapped/b", "listed")
	words, n = swaps("swapped")
	s.t.Logf("recorded, %s swaps: %s", n, words)
	if !strings.Contains(words, " listed") || !strings.Contains(words, "unlisted") || strings.Contains(words, "refused") {
		s.t.Errorf("want both programs to have run: %s", words)
	}
	there := s.run("sha256sum /opt/swapped/a /opt/swapped/b | cut -c 1-64")
	said := s.run(`agentctl log --json | jq -r '.records[].event | (.exec | select(. != null and .app == "swapped") | .digest), (.app | select(. != null and .name == "swapped") | .manifest[].digest)' | sort -u`)
	for digest := range strings.FieldsSeq(said) {
		if !strings.Contains(there, digest) {
			s.t.Errorf("the log names %s, and only\n%s were there", digest, there)
		}
	}
	for digest := range strings.FieldsSeq(there) {
		if !strings.Contains(said, digest) {
			s.t.Errorf("%s ran, and the log names only\n%s", digest, said)
		}
	}
	s.run("cd /; rm /etc/agentd/apps.d/swapped.toml /etc/agentd/apps.d/refused.toml && agentctl app reload >/dev/null && rm -r /opt/swapped /opt/refused /etc/systemd/system/swapped.service /etc/systemd/system/refused.service && systemctl daemon-reload")
}

// gateEnds stops and kills the gate: a stopped one holds programs up, and evidence says so; a killed
// one lets them start (case 126).
func (s *session) gateEnds() {
	gaps := func() string { return strings.TrimSpace(s.run(gated + " | grep -c '^gate-gap' || true")) }
	s.run("systemctl start agentd-gate.service && agentctl measure --app gated")
	// A process that waits for the gate dies of SIGKILL alone, as long as timeout's handler is its own.
	s.run("/opt/gated/program && systemctl kill -s STOP agentd-gate.service && ! timeout -s KILL 2 /opt/gated/program")
	s.run("agentctl attest --nonce " + nonce() + " >/dev/null")
	s.want(gated+" | tail -n 1", "gate-gap")
	s.eventually("timeout -s KILL 2 /opt/gated/program") // systemd's watchdog ends it
	s.eventually(gated + " | tail -n 1 | grep '^gate-start gated$'")
	before := gaps()
	s.run("systemctl kill -s KILL agentd-gate.service; /opt/gated/program && agentctl attest --nonce " + nonce() + " >/dev/null")
	if after := gaps(); after == before {
		s.t.Fatalf("a killed gate is not in the log: %s gaps before and after", after)
	}
	s.eventually(gated + " | tail -n 1 | grep '^gate-start gated$'")
	s.run("agentctl app disable gated.service && rm /etc/agentd/apps.d/gated.toml && agentctl app reload && systemctl stop agentd-gate.service && rm -r /opt/gated /etc/systemd/system/gated.service && systemctl daemon-reload")
}

// gateOnThisKernel runs the tests of the gate that need a kernel, with fs-verity too.
func (s *session) gateOnThisKernel() {
	out := s.run("cd /var/tmp && TMPDIR=/var/tmp /packages/bin/gate.test -test.v 2>&1")
	for _, line := range strings.Split(out, "\n") {
		if strings.Contains(line, "--- SKIP") {
			s.t.Errorf("on this kernel %s\n%s", strings.TrimSpace(line), out)
		}
	}
	if !strings.Contains(out, "--- PASS: TestVerity") {
		s.t.Errorf("fs-verity was not tested\n%s", out)
	}
}

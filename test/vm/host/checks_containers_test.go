// SPDX-License-Identifier: Apache-2.0

package host

import (
	"fmt"
	"strings"
)

// containerChecks lists the checks of containers in their order. An engine is set up, used, attacked,
// and set back.
func containerChecks() []check {
	out := []check{{"boots", true, (*session).boots}, {"installs", true, (*session).installsPackage}}
	add := func(e engine, name string, vital bool, run func(*session, engine)) {
		out = append(out, check{e.name + "-" + name, vital, func(s *session) { run(s, e) }})
	}
	for _, e := range []engine{podman, docker, containerd} {
		add(e, "enabled", true, (*session).engineEnabled)
		add(e, "measured-before-entry-point", true, (*session).measuredFirst)
		add(e, "evidence-and-keys", false, (*session).containerEvidence)
		add(e, "events-of-a-container", false, (*session).containerEvents)
		add(e, "second-container-reads-nothing", false, (*session).layersKept)
		if !e.inPods() { // which are not started again
			add(e, "restart-and-exec", false, (*session).restartAndExec)
		}
		add(e, "many-layers", false, (*session).manyLayers)
		add(e, "refusal-is-shown", false, (*session).refusalShown)
		if !e.inPods() { // whose containers have no names of their own
			add(e, "same-name", false, (*session).sameName)
		}
		add(e, "retagged-image", false, (*session).retagged)
		add(e, "edited-layer", false, (*session).editedLayer)
		add(e, "swapped-layer", false, (*session).swappedLayer)
		add(e, "changed-arguments", false, (*session).changedArguments)
		switch e.name {
		case podman.name:
			add(e, "in-a-unit", false, (*session).plainUnit)
			add(e, "quadlet", false, (*session).quadlet)
		case containerd.name:
			add(e, "ctr", false, (*session).ctrAlone)
		}
		add(e, "disabled", false, (*session).engineDisabled)
	}
	return out
}

// installsPackage installs the package, and starts the registry.
func (s *session) installsPackage() {
	s.run("mkdir -p /packages /etc/agentd && mount -o ro /dev/vdb /packages && printf '[keys]\nlose_on_hardware_change = true\n' >/etc/agentd/config.toml && dpkg -i --force-confold /packages/new/*.deb")
	s.eventually("systemctl is-active agentd.service agentd.socket agentd-admin.socket && agentctl status")
	s.run("systemd-run --unit=registry -p Type=notify vmguest registry /packages/images " + registry)
}

// engineEnabled sets an engine up as the document says. What others wrote into its file stays.
func (s *session) engineEnabled(e engine) {
	if e.name == "docker" { // no network: the machine has none
		s.run(`mkdir -p /etc/docker && printf '{"bridge":"none","iptables":false,"ip6tables":false}' >/etc/docker/daemon.json`)
	}
	if e.inPods() {
		s.containerdEnabled()
	} else {
		s.want("agentctl container enable --dry-run "+e.name+" && agentctl container list", "would be", e.name, "disabled")
		s.run("agentctl container enable " + e.name)
	}
	s.want("agentctl container enable "+e.name, "nothing to do")
	s.want("agentctl container list | grep ^"+e.name, "enabled")
	if e.name == "docker" {
		s.want("systemctl restart docker && jq -c . /etc/docker/daemon.json && docker info --format '{{.DefaultRuntime}}'", `"bridge":"none"`, "agentd\n")
	}
	s.get(e, "web", "other", "retagged", "edited", "swapped", "arguments")
	if e.name == podman.name {
		s.get(e, "plain", "quadlet")
	}
	s.declare(e.app("web"), "web", e.name, "")
}

// measuredFirst checks that the log had a container before the first act of its program, which runs in
// the process that was measured, and that the image alone gives the digest of its root.
func (s *session) measuredFirst(e engine) {
	s.up(e, e.app("web"), imageRef("web"))
	acts, starts := s.acts(e.app("web")), s.starts(e, e.app("web"))
	if len(acts) != 1 || len(starts) != 1 {
		s.t.Fatalf("%d acts, %d records: %+v", len(acts), len(starts), acts)
	}
	c := starts[0].Container
	if starts[0].Time > acts[0].Now || c.Started != acts[0].Started {
		s.t.Fatalf("recorded at %d of a process from %d; the first act was at %d, of one from %d", starts[0].Time, c.Started, acts[0].Now, acts[0].Started)
	}
	if c.App != e.app("web") || c.Image.Name != imageRef("web") || c.Process.UID != 1201 {
		s.t.Fatalf("%+v", c)
	}
	rule := s.reference(c.App, "web")
	if !strings.Contains(rule, fmt.Sprintf("roots = [%q]", c.Root.Digest)) || !e.inPods() && !strings.Contains(rule, fmt.Sprintf("images = [%q]", c.Image.Config)) {
		s.t.Fatalf("root %s, image %s; from the image alone:\n%s", c.Root.Digest, c.Image.Config, rule)
	}
	if !e.inPods() {
		s.run(e.name + " logs " + e.app("web"))
	}
}

// containerEvidence checks evidence and keys of a process in the container. One in a container of no
// application gets evidence that names none, and no keys; neither does another user.
func (s *session) containerEvidence(e engine) {
	web := folder(e.app("web")) + "/socket"
	s.appraised(e, e.app("web"), e.app("web"), "web")
	if key := s.run("vmguest ask " + web + " derive disk"); len(key) != 64 {
		s.t.Fatalf("key %q", key)
	}
	other, refusal := e.app("other"), "no-app"
	if e.inPods() { // whose control groups are of no unit, and nothing records this container
		refusal = "no-system-unit"
	}
	s.up(e, other, imageRef("other"))
	s.fails("vmguest ask "+folder(other)+"/socket derive disk", refusal)
	s.appraised(e, other, e.app("web"), "web", "policy.caller-app", "policy.caller-container")
	if n := len(s.starts(e, other)); n != 0 {
		s.t.Fatalf("a container of no application has %d records", n)
	}
	s.run(e.remove(other))
	s.fails(e.exec("0", e.app("web"))+" /usr/bin/web direct derive disk", "no-app")
}

// containerEvents checks that the program of a container records events, as its application. Each
// engine has a domain of its own: the log keeps those of the engine before.
func (s *session) containerEvents(e engine) {
	domain := "mode-of-" + e.name
	s.run("vmguest ask " + folder(e.app("web")) + "/socket emit " + domain + " production")
	n := nonce()
	document := []byte(s.run("vmguest ask " + folder(e.app("web")) + "/socket evidence " + n + " fresh"))
	rule := fmt.Sprintf("\n[[event]]\napp = %q\ndomain = %q\ndemand = \"last\"\ncontents = [\"production\"]\nothers = \"refuse\"\n", e.app("web"), domain)
	if failed := s.judged(s.containerPolicy(e, e.app("web"), "web", rule), document, n); len(failed) != 0 {
		s.t.Fatalf("the checks %q failed", failed)
	}
}

// layersKept checks that a second container of an image has its layers' files not read again.
func (s *session) layersKept(e engine) {
	before, _ := s.bytesRead()
	s.again(e, e.app("web"), imageRef("web"))
	after, kept := s.bytesRead()
	root := s.starts(e, e.app("web"))[0].Container.Root
	s.t.Logf("of %d bytes of a second container, %d were read again; %d were known, of all since the agent started", root.Bytes, after-before, kept)
	if most := root.Bytes * 99 / 100; before < most || after-before > root.Bytes/100 || kept < most { // links are not read
		s.t.Fatalf("%d bytes were read before, %d more by a second container, and %d were known, of %d", before, after-before, kept, root.Bytes)
	}
}

// restartAndExec checks a container that is restarted, and programs that are started in it.
func (s *session) restartAndExec(e engine) {
	web := e.app("web")
	s.run("set -e\nrm " + folder(web) + "/socket\n" + e.name + " restart -t 1 " + web + "\n" + answers(web))
	acts, starts := s.acts(web), s.starts(e, web)
	if len(acts) != 2 || len(starts) != 2 || starts[1].Container.Started != acts[1].Started || starts[1].Time > acts[1].Now || starts[1].Container.Root.Digest != starts[0].Container.Root.Digest {
		s.t.Fatalf("acts %+v, %d records: %+v", acts, len(starts), starts)
	}
	s.appraised(e, web, web, "web")
	n := nonce()
	document := []byte(s.run(e.exec("", web) + " /usr/bin/web direct evidence " + n + " fresh"))
	if failed := s.judged(s.containerPolicy(e, web, "web", ""), document, n); len(failed) != 0 {
		s.t.Fatalf("a program that was started in the container: the checks %q failed", failed)
	}
	s.run("systemctl restart agentd && agentctl status --wait 5m >/dev/null")
	s.appraised(e, web, web, "web")
}

// manyLayers checks an image of so many layers that the engine does not mount them by their paths.
func (s *session) manyLayers(e engine) {
	s.get(e, "deep")
	s.declare(e.app("deep"), "deep", e.name, "")
	s.up(e, e.app("deep"), imageRef("deep"))
	s.want("grep overlay /proc/mounts | grep -c '"+e.many+"'", "1")
	s.appraised(e, e.app("deep"), e.app("deep"), "deep")
	before, _ := s.bytesRead()
	s.again(e, e.app("deep"), imageRef("deep"))
	after, _ := s.bytesRead()
	root := s.starts(e, e.app("deep"))[0].Container.Root
	s.t.Logf("%d layers, %d files: of %d bytes of a second container, %d were read again", many, root.Files, root.Bytes, after-before)
	if after-before > root.Bytes/100 {
		s.t.Fatalf("a second container had %d bytes read, of %d", after-before, root.Bytes)
	}
	s.run(e.remove(e.app("deep")))
}

// refusalShown checks that a container that is not measured does not start, and that the engine says
// why: once the agent refuses, once it does not answer.
func (s *session) refusalShown(e engine) {
	refused := func(before, after string, words ...string) {
		s.t.Helper()
		run := e.name + " run " + running("refused", "--rm", imageRef("web"))
		if e.inPods() {
			run = e.start("refused", imageRef("web"))
		}
		s.fails(prepared("refused")+before+"\ntimeout 300 "+run+" 2>&1; code=$?\n"+after+"\nexit $code", words...)
		s.run(e.remove("refused") + " >/dev/null 2>&1; ! test -e " + folder("refused") + "/acts")
	}
	if !e.inPods() {
		// The engine's image is that of two declarations: one has its name, the other its digest.
		s.run(fmt.Sprintf("printf 'image = \"sha256:%s\"\nengine = \"%s\"\n' >/etc/agentd/apps.d/%s.toml && agentctl app reload",
			s.starts(e, e.app("web"))[0].Container.Image.Config, e.name, e.app("double")))
		refused("", "rm /etc/agentd/apps.d/"+e.app("double")+".toml && agentctl app reload", "its image is that of the apps "+e.app("double")+", "+e.app("web"), "container-image")
	}
	// The client socket stays: the engine mounts it.
	refused("systemctl stop agentd-admin.socket agentd.service", "systemctl start agentd-admin.socket agentd.service && agentctl status --wait 5m >/dev/null", "is agentd.service running?")
}

// sameName checks a container that has the name of the application's.
func (s *session) sameName(e engine) {
	web := e.app("web")
	s.fails(e.name+" run -d "+running(web, "", imageRef("other")), "in use")
	s.again(e, web, imageRef("other"))
	s.appraised(e, web, web, "web", "policy.caller-app", "policy.caller-container")
	s.fails("vmguest ask "+folder(web)+"/socket derive disk", "no-app")
	s.run(e.remove(web))
}

// attacked starts a container of an image, which is accepted, has the image attacked by a script, starts
// another container of its name by words, and checks which checks refuse it.
func (s *session) attacked(e engine, image, words, script string, inStore bool, want ...string) {
	s.t.Helper()
	app := e.app(image)
	s.get(e, image)
	s.declare(app, image, e.name, "")
	s.up(e, app, imageRef(image))
	s.appraised(e, app, app, image)
	start := s.again
	if inStore { // which nothing uses then
		script, start = e.remove(app)+"\n"+script, s.up
	}
	if script != "" {
		s.run("set -e\n" + script)
	}
	start(e, app, words)
	s.appraised(e, app, app, image, want...)
	s.run(e.remove(app))
}

// retagged gives the name of the application's image to another one. containerd then says the first name
// of that, which is of no application.
func (s *session) retagged(e engine) {
	want := []string{"policy.container-root", "policy.container-image"}
	if e.inPods() {
		want = []string{"policy.caller-app", "policy.caller-container"}
	}
	s.attacked(e, "retagged", imageRef("retagged"), e.tag(imageRef("other"), imageRef("retagged")), false, want...)
}

// greeting finds the file in the engine's store that only an image has.
func greeting(e engine, image string) string {
	return fmt.Sprintf("f=$(grep -lx 'the greeting of %s' %s/opt/greeting) && test -f $f\n", image, e.layers)
}

func (s *session) editedLayer(e engine) {
	s.attacked(e, "edited", imageRef("edited"), greeting(e, "edited")+"sed -i s/the/The/ $f", true, "policy.container-root")
}

func (s *session) swappedLayer(e engine) {
	s.attacked(e, "swapped", imageRef("swapped"), greeting(e, "swapped")+"d=${f%/opt/greeting} && cp -a $d /var/tmp/swapped && echo evil >/var/tmp/swapped/opt/greeting && mv $d $d.was && mv /var/tmp/swapped $d", true, "policy.container-root")
}

func (s *session) changedArguments(e engine) {
	s.attacked(e, "arguments", imageRef("arguments")+" /usr/bin/web app /srv/socket", "", false, "policy.container-process")
}

// inUnit checks an application that is an image and a unit, which runs already: its evidence names
// both, and a container of the image outside the unit is not the application.
func (s *session) inUnit(image, unit string) {
	s.t.Helper()
	s.run(answers(image))
	s.appraised(podman, image, image, image)
	s.want("vmguest ask "+folder(image)+"/socket evidence "+nonce()+" anchored | jq -r .statement | base64 -d | jq -r .caller.unit", unit)
	s.up(podman, image+"-outside", imageRef(image))
	s.appraised(podman, image+"-outside", image, image, "policy.caller-app", "policy.caller-container")
	s.run(podman.remove(image + "-outside"))
}

// plainUnit checks podman run in a unit.
func (s *session) plainUnit(e engine) {
	s.get(e, "plain")
	s.declare("plain", "plain", "podman", `unit = "plain.service"\n`)
	s.run(prepared("plain") + "systemd-run --unit=plain -p Delegate=yes sh -c 'exec podman run --cgroups=split " + running("plain", "--rm", imageRef("plain")) + "'")
	s.inUnit("plain", "plain.service")
	s.run("systemctl stop plain")
}

// quadlet checks a container that a file of quadlet describes.
func (s *session) quadlet(e engine) {
	s.get(e, "quadlet")
	s.declare("quadlet", "quadlet", "podman", `unit = "quadlet.service"\n`)
	s.run(prepared("quadlet") + `mkdir -p /etc/containers/systemd && cat >/etc/containers/systemd/quadlet.container <<END
[Container]
Image=` + imageRef("quadlet") + `
ContainerName=quadlet
Network=none
User=1201
Group=1201
GroupAdd=$(getent group agentd-clients | cut -d: -f3)
Volume=/srv/quadlet:/srv
Volume=/run/agentd/agentd.sock:/run/agentd/agentd.sock
Pull=never
END
systemctl daemon-reload && systemctl start quadlet.service`)
	s.inUnit("quadlet", "quadlet.service")
	s.run("systemctl stop quadlet.service")
}

// engineDisabled undoes what was set up: containers start unmeasured then.
func (s *session) engineDisabled(e engine) {
	if e.inPods() {
		s.containerdDisabled()
	} else {
		s.run("agentctl container disable " + e.name)
	}
	s.want("agentctl container list | grep ^"+e.name, "disabled")
	if e.name == "docker" {
		s.want("systemctl restart docker && jq -c . /etc/docker/daemon.json", `{"bridge":"none","iptables":false,"ip6tables":false}`)
	}
	s.up(e, e.app("after"), imageRef("web"))
	if n := len(s.starts(e, e.app("after"))); n != 0 {
		s.t.Fatalf("%d records", n)
	}
	s.run(e.remove(e.app("after")))
}

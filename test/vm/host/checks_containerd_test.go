// SPDX-License-Identifier: Apache-2.0

package host

import (
	"fmt"
	"strings"
)

// containerdFile is what an administrator writes.
const containerdFile = "/etc/containerd/config.toml"

// containerdRestarts restarts it, and waits until it takes requests for pods.
const containerdRestarts = "systemctl restart containerd && timeout 300 bash -c 'until vmguest pod ready >/dev/null 2>&1; do sleep 0.2; done'"

// containerdEnabled adds to the file of Debian what the command prints, word for word. Pods need an image
// of their own.
func (s *session) containerdEnabled() {
	s.want("agentctl container list | grep ^containerd", "disabled")
	s.run(`set -e; systemctl stop docker.socket docker.service # it would take up with containerd again and again
cp ` + containerdFile + ` /root/containerd.was
sed -i 's|^ *\[plugins."io.containerd.grpc.v1.cri"\]$|&\n    sandbox_image = "` + imageRef("pause") + `"|' ` + containerdFile + `
agentctl container enable containerd | sed -n '/^\[plugins/,/BinaryName/p' >>` + containerdFile + `
` + containerdRestarts)
	s.want("containerd config dump | grep 'BinaryName = .*agentd'", "/usr/libexec/agentd/containerd-runc")
}

// containerdDisabled removes the line that the command prints.
func (s *session) containerdDisabled() {
	s.want("agentctl container disable containerd", "remove from "+containerdFile, "BinaryName")
	s.run("set -e; grep -v BinaryName " + containerdFile + " >/root/without; cp /root/without " + containerdFile + "\n" + containerdRestarts)
}

// ctrAlone checks containers of containerd's own client, which is told of the runtime and of the name of
// the image: containerd itself writes that name for pods alone.
func (s *session) ctrAlone(e engine) {
	app, image := e.app("plain"), imageRef("plain")
	s.declare(app, "plain", e.name, "")
	s.run("ctr image pull --plain-http " + image + " >/dev/null")
	run := func(container, flags string) string {
		return prepared(container) + fmt.Sprintf("ctr run -d --runc-binary /usr/libexec/agentd/containerd-runc %s --user 1201:$(getent group agentd-clients | cut -d: -f3) "+
			"--mount type=bind,src=%s,dst=/srv,options=rbind:rw --mount type=bind,src=/run/agentd/agentd.sock,dst=/run/agentd/agentd.sock,options=rbind:rw %s %s", flags, folder(container), image, container)
	}
	up := func(container, flags string) { s.run("set -e\n" + run(container, flags) + "\n" + answers(container)) }
	named := "--annotation io.kubernetes.cri.image-name=" + image
	remove := func(container string) { s.run("ctr task rm -f " + container + "; ctr container rm " + container) }
	records := func(container string) (n int) {
		for _, x := range s.events() {
			if x.Container != nil && x.Container.ID == container {
				n++
			}
		}
		return n
	}
	up("ctr-named", named)
	s.appraised(e, "ctr-named", app, "plain")
	if n := records("ctr-named"); n != 1 {
		s.t.Fatalf("%d records, want 1", n)
	}
	remove("ctr-named")
	up("ctr-unnamed", "")
	s.appraised(e, "ctr-unnamed", app, "plain", "policy.caller-app", "policy.caller-container")
	// ctr makes a control group outside of systemd's units, and nothing records this container.
	s.fails("vmguest ask "+folder("ctr-unnamed")+"/socket derive disk", "no-system-unit")
	remove("ctr-unnamed")
	s.fails("systemctl stop agentd-admin.socket agentd.service\n"+strings.ReplaceAll(run("ctr-refused", named), "ctr run", "timeout 300 ctr run")+" 2>&1; code=$?\n"+
		"systemctl start agentd-admin.socket agentd.service && agentctl status --wait 5m >/dev/null\nexit $code", "is agentd.service running?")
	s.run("ctr container rm ctr-refused; ! test -e " + folder("ctr-refused") + "/acts")
}

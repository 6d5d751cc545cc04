// SPDX-License-Identifier: Apache-2.0

package host

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/pcr"
)

// engine is an engine of containers of the machine.
type engine struct {
	name   string
	pull   string // command that pulls images: docker one, the others as many as are named
	layers string // folders of its layers, as the shell expands it
	many   string // how it mounts so many layers that their paths do not fit into one mount
}

// Containerd is asked by its Container Runtime Interface, as Kubernetes does: each container is in a
// pod of its own. The client ctr of its package uses another interface (ctrAlone).
var (
	podman     = engine{"podman", "podman pull -q --tls-verify=false", "/var/lib/containers/storage/overlay/*/diff", "lowerdir=[0-9]"}
	docker     = engine{"docker", "docker pull -q", "/var/lib/docker/overlay2/*/diff", "lowerdir=l/"}
	containerd = engine{"containerd", "vmguest pod pull", "/var/lib/containerd/io.containerd.snapshotter.v1.overlayfs/snapshots/*/fs", "lowerdir=[0-9]"}
)

// inPods reports whether the engine is asked for pods. Of an image, it knows the name alone.
func (e engine) inPods() bool { return e.name == containerd.name }

// start returns the command that starts a container. Words are the image, and what takes the place of
// its own program and arguments.
func (e engine) start(container, words string) string {
	if e.inPods() {
		image, args, _ := strings.Cut(words, " ")
		return fmt.Sprintf("vmguest pod run %s %s 1201 $(getent group agentd-clients | cut -d: -f3) %s", container, image, args)
	}
	flags := ""
	if image, args, other := strings.Cut(words, " "); other {
		program, args, _ := strings.Cut(args, " ")
		flags, words = "--entrypoint "+program, image+" "+args
	}
	return e.name + " run -d " + running(container, flags, words)
}

// remove returns the command that removes a container.
func (e engine) remove(container string) string {
	if e.inPods() {
		return "vmguest pod rm " + container
	}
	if e.name == podman.name {
		return "podman rm -f -t 0 " + container
	}
	return e.name + " rm -f " + container
}

// replace returns the command that removes a container, and starts one of its name.
func (e engine) replace(container, words string) string {
	if e.name == podman.name { // one process, which takes seconds to begin
		return strings.Replace(e.start(container, words), " run ", " run --replace ", 1)
	}
	return e.remove(container) + " >/dev/null && " + e.start(container, words)
}

// exec returns the command that starts a program in a container, by a user of it if one is named.
func (e engine) exec(user, container string) string {
	if user != "" {
		user = "--user " + user + " "
	}
	if e.inPods() {
		return "ctr -n k8s.io task exec --exec-id x$RANDOM " + user + "$(vmguest pod id " + container + ")"
	}
	return e.name + " exec " + user + container
}

// tag returns the command that gives the image of one name to another one.
func (e engine) tag(from, to string) string {
	if e.inPods() {
		return "ctr -n k8s.io image tag --force " + from + " " + to
	}
	return e.name + " tag " + from + " " + to
}

// registry is the address of the registry in the machine.
const registry = "localhost:5000"

// of returns the reference of an image in the registry.
func imageRef(name string) string { return registry + "/" + name + ":1" }

// app returns the name of the application that an image of the engine is.
func (e engine) app(image string) string { return e.name + "-" + image }

// folder is a volume of a container, with its socket and what it wrote.
func folder(container string) string { return "/srv/" + container }

// running returns the arguments of a container that the machine can ask. Its program is not root.
func running(container, flags, image string) string {
	return fmt.Sprintf("--name %s --network none --user 1201:1201 --group-add $(getent group agentd-clients | cut -d: -f3) "+
		"-v %s:/srv -v /run/agentd/agentd.sock:/run/agentd/agentd.sock %s %s", container, folder(container), flags, image)
}

// prepared makes the volume of a container.
func prepared(container string) string {
	return fmt.Sprintf("rm -rf %[1]s && install -d -o 1201 -g 1201 %[1]s\n", folder(container))
}

// up starts a container, and waits until its program can be asked.
func (s *session) up(e engine, container, words string) {
	s.t.Helper()
	s.begun(container, e.start(container, words))
}

// again removes a container and starts one of its name, as up does.
func (s *session) again(e engine, container, words string) {
	s.t.Helper()
	s.begun(container, e.replace(container, words))
}

// begun runs a command that starts a container, and keeps the id that it prints last.
func (s *session) begun(container, command string) {
	s.t.Helper()
	out := s.run("set -e\n" + prepared(container) + command + "\n" + answers(container))
	id := containerID.FindString(strings.TrimSpace(out))
	if id == "" {
		s.t.Fatalf("no id of the container in: %s", out)
	}
	if s.ids == nil {
		s.ids = make(map[string]string)
	}
	s.ids[container] = id
}

var containerID = regexp.MustCompile(`\b[0-9a-f]{64}$`)

// answers waits in the machine until a program listens in its container: each look from outside would
// start a shell there.
func answers(container string) string {
	return fmt.Sprintf("timeout %.0f bash -c 'until test -S %s/socket; do sleep 0.1; done'", patience.Seconds(), folder(container))
}

// declare declares the application that an image is.
func (s *session) declare(name, image, engine, more string) {
	s.t.Helper()
	s.run(fmt.Sprintf("printf 'image = \"%s/%s\"\\nengine = \"%s\"\\n%s' >/etc/agentd/apps.d/%s.toml && agentctl app reload", registry, image, engine, more, name))
}

// get pulls images that were not pulled yet, by one command.
func (s *session) get(e engine, images ...string) {
	s.t.Helper()
	if s.pulled == nil {
		s.pulled = make(map[string]bool)
	}
	var refs []string
	for _, image := range images {
		if !s.pulled[e.app(image)] {
			s.pulled[e.app(image)], refs = true, append(refs, imageRef(image))
		}
	}
	between := " "
	if e.name == docker.name {
		between = " && " + e.pull + " "
	}
	if len(refs) > 0 {
		s.run(e.pull + " " + strings.Join(refs, between))
	}
}

// events returns the events in the log of the machine, by number.
func (s *session) events() (all []*pcr.Event) {
	s.t.Helper()
	b, err := base64.StdEncoding.DecodeString(s.run("agentctl log --format cel-tlv | base64 -w0"))
	s.must(err)
	records, err := pcr.DecodeLog(b, 0)
	s.must(err)
	for _, r := range records {
		e, err := r.Event()
		s.must(err)
		all = append(all, e)
	}
	return all
}

// starts returns the starts of a container in the log.
func (s *session) starts(e engine, container string) (all []*pcr.Event) {
	s.t.Helper()
	id := s.ids[container]
	for _, x := range s.events() {
		if c := x.Container; c != nil && c.Engine == e.name && c.ID == id {
			all = append(all, x)
		}
	}
	return all
}

// act is what the first program of a container wrote when it ran.
type act struct{ Now, Started uint64 }

func (s *session) acts(container string) (all []act) {
	s.t.Helper()
	for line := range strings.Lines(s.run("cat " + folder(container) + "/acts")) {
		var a act
		s.must(json.Unmarshal([]byte(line), &a))
		all = append(all, a)
	}
	return all
}

// images is the layout of the images, on this machine.
func (s *session) images() string { return filepath.Join(*packageFolder, "images") }

// reference computes what an image is, from the image alone and on this machine.
func (s *session) reference(app, image string, flags ...string) string {
	s.t.Helper()
	args := append([]string{"policy", "image-reference", "--app", app, "--name", image + ":1"}, flags...)
	out, err := exec.CommandContext(s.ctx, *agentctlFile, append(args, s.images())...).Output()
	s.must(err)
	return string(out)
}

// containerPolicy returns a policy in which an application is an image. The caller must be it.
func (s *session) containerPolicy(e engine, app, image, more string) string {
	s.t.Helper()
	measurement, err := os.ReadFile(filepath.Join(s.machine.image, "measurement"))
	s.must(err)
	rule := s.reference(app, image)
	if e.inPods() {
		rule = imageDigests.ReplaceAllString(rule, "") + "host_namespaces = [\"cgroup\", \"net\", \"uts\"]\nshared_namespaces = [\"ipc\"]\n"
	}
	return fmt.Sprintf(`version = 1
products = ["milan"]
freshness = "anchored"
max_anchor_age = "30m"

[[launch]]
measurement = "%[1]s"
kind = "plain"
covers = "firmware"

[guest_policy]
allow_smt = true

%[2]sengine = "%[3]s"
uid = 1201
mounts = ["/srv", "/run/agentd/agentd.sock"]
%[4]s
[caller]
app = "%[5]s"
container = "%[3]s"
`, measurement, rule, e.name, more, app)
}

// imageDigests is the line of a rule that an engine cannot meet that knows the name of an image alone.
var imageDigests = regexp.MustCompile(`(?m)^images = .*\n`)

var failedCheck = regexp.MustCompile(`(?m)^FAIL +([a-z]+\.[a-z-]+)`)

// judged verifies evidence on this machine, and returns which checks failed.
func (s *session) judged(policy string, document []byte, nonce string) []string {
	s.t.Helper()
	file, rules := filepath.Join(s.machine.work, "evidence.json"), filepath.Join(s.machine.work, "policy.toml")
	s.must(os.WriteFile(file, document, 0o644))
	s.must(os.WriteFile(rules, []byte(policy), 0o644))
	cmd := exec.CommandContext(s.ctx, *agentctlFile, "verify", "--policy", rules, "--nonce", nonce,
		"--trust-test-root-that-vouches-for-no-hardware", filepath.Join(s.machine.image, "test-root.pem"), file)
	out, err := cmd.CombinedOutput()
	if _, ok := errors.AsType[*exec.ExitError](err); !ok {
		s.must(err)
	}
	failed := []string{}
	for _, m := range failedCheck.FindAllSubmatch(out, -1) {
		failed = append(failed, string(m[1]))
	}
	slices.Sort(failed)
	if code := cmd.ProcessState.ExitCode(); (code == 0) != (len(failed) == 0) {
		s.t.Fatalf("verify ended with exit code %d:\n%s", code, out)
	}
	for _, line := range strings.Split(string(out), "\n") {
		if strings.HasPrefix(line, "FAIL") {
			s.t.Log(line)
		}
	}
	return failed
}

// appraised asks the program of a container for evidence, and checks which checks it fails under the
// policy for an application and its image.
func (s *session) appraised(e engine, container, app, image string, want ...string) {
	s.t.Helper()
	n := nonce()
	document := []byte(s.run("vmguest ask " + folder(container) + "/socket evidence " + n + " fresh"))
	slices.Sort(want)
	if failed := s.judged(s.containerPolicy(e, app, image, ""), document, n); !slices.Equal(failed, want) {
		s.t.Fatalf("the checks %q failed, want %q", failed, want)
	}
}

// bytesRead returns how many bytes of containers the agent hashed, and of how many it knew the digest.
func (s *session) bytesRead() (read, kept uint64) {
	s.t.Helper()
	for line := range strings.Lines(s.run("agentctl metrics")) {
		for kind, to := range map[string]*uint64{"read": &read, "kept": &kept} {
			if value, ok := strings.CutPrefix(line, `agentd_container_bytes_total{kind="`+kind+`"} `); ok {
				f, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
				s.must(err)
				*to = uint64(f)
			}
		}
	}
	return read, kept
}

// TestContainers runs containers of real engines in a machine.
func TestContainers(t *testing.T) {
	if *workFolder == "" {
		t.Skip("needs a virtual machine: run `make test-vm-containers`")
	}
	if err := makeLayout(filepath.Join(*packageFolder, "images"), *guestFile); err != nil {
		t.Fatal(err)
	}
	onMachine(t, containerChecks(), neverCut)
}

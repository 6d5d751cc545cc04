// SPDX-License-Identifier: Apache-2.0

package containers

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/internal/oci"
	"github.com/cvm-agentd/agentd/pcr"
)

// TestAllDevices: rules that allow devices which the record does not name count as all devices,
// however they are written, and what each container may use does not.
func TestAllDevices(t *testing.T) {
	const none = `{"allow":false,"access":"rwm"}`
	for rules, want := range map[string]bool{
		`null`:                            true,
		`[]`:                              true,
		`[` + none + `]`:                  false,
		`[{"allow":true,"access":"rwm"}]`: true,
		`[{"allow":true,"type":"a","major":-1,"minor":-1,"access":"rwm"},` + none + `]`:                                                           false,
		`[` + none + `,{"allow":true,"type":"a","access":"rwm"}]`:                                                                                 true,
		`[` + none + `,{"allow":true,"type":"b","access":"rwm"}]`:                                                                                 true,
		`[` + none + `,{"allow":true,"type":"b","major":8,"access":"rwm"}]`:                                                                       true,
		`[` + none + `,{"allow":true,"type":"b","major":8,"minor":-1,"access":"r"}]`:                                                              true,
		`[` + none + `,{"allow":true,"type":"b","major":8,"minor":0,"access":"w"}]`:                                                               true,
		`[` + none + `,{"allow":true,"type":"b","major":8,"minor":0}]`:                                                                            true,
		`[` + none + `,{"allow":true,"type":"c","major":1,"minor":1,"access":"rw"}]`:                                                              true,
		`[` + none + `,{"allow":true,"type":"c","major":1,"access":"rw"}]`:                                                                        true,
		`[` + none + `,{"allow":true,"type":"b","major":1,"minor":3,"access":"rw"}]`:                                                              true,
		`[` + none + `,{"allow":true,"type":"a","major":1,"minor":3,"access":"rw"}]`:                                                              true,
		`[` + none + `,{"allow":true,"type":"c","major":10,"minor":229,"access":"rwm"}]`:                                                          false, // named
		`[` + none + `,{"allow":true,"type":"b","major":10,"minor":229,"access":"rwm"}]`:                                                          true,
		`[` + none + `,{"allow":true,"type":"b","major":8,"minor":0,"access":"rw"},` + none + `]`:                                                 false,
		`[` + none + `,{"allow":true,"type":"b","major":8,"minor":0,"access":"rw"},{"allow":false,"type":"b","major":8,"minor":1,"access":"rw"}]`: true,
		// as engines write it
		`[` + none + `,{"allow":true,"type":"c","access":"m"},{"allow":true,"type":"b","access":"m"},{"allow":true,"type":"c","major":1,"minor":3,"access":"rwm"},` +
			`{"allow":true,"type":"c","major":136,"access":"rwm"},{"allow":true,"type":"c","major":5,"minor":2,"access":"rwm"},{"allow":false,"type":"c","major":10,"minor":229,"access":"rwm"}]`: false,
	} {
		s := &oci.Spec{Linux: &oci.Linux{Devices: []oci.Device{{Path: "/dev/fuse", Type: "c", Major: 10, Minor: 229}}, Resources: new(oci.Resources)}}
		if err := json.Unmarshal([]byte(rules), &s.Linux.Resources.Devices); err != nil {
			t.Fatal(err)
		}
		if got := allDevices(s); got != want {
			t.Errorf("%s: %t", rules, got)
		}
	}
	if !allDevices(&oci.Spec{Linux: new(oci.Linux)}) {
		t.Error("without resources nothing is forbidden")
	}
}

// TestSharedNamespaces: a container that is made in namespaces of another process has them in its
// record, and one with none but its own has nothing there.
func TestSharedNamespaces(t *testing.T) {
	b := newBed(nil)
	defer b.Close()
	alone := create(t, b.groups, spec())
	if _, err := b.Record(t.Context(), hook, alone.request("alone")); err != nil {
		t.Fatal(err)
	}
	if e := b.log.all()[0].Container; len(e.Shared) != 0 || !slices.Contains(e.Namespaces, "uts") {
		t.Fatalf("shared %q of %q", e.Shared, e.Namespaces)
	}
	beside := create(t, b.groups, spec())
	other := exec.Command("nsenter", "--target", strconv.Itoa(beside.cmd.Process.Pid), "--uts", "sleep", "infinity")
	other.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := other.Start(); err != nil {
		t.Skip(err)
	}
	defer func() { other.Process.Kill(); other.Wait() }()
	want, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/uts", beside.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(time.Minute); ; {
		if got, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/uts", other.Process.Pid)); err == nil && got == want {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("nsenter did not enter")
		}
		time.Sleep(10 * time.Millisecond)
	}
	if _, err := b.Record(t.Context(), hook, beside.request("beside")); err != nil {
		t.Fatal(err)
	}
	if e := b.log.all()[1].Container; !slices.Equal(e.Shared, []string{"uts"}) {
		t.Errorf("shared %q", e.Shared)
	}
}

// TestKindsOfNamespaces: a record has each kind of namespaces that the agent looks at, and no other kind
// is in /proc but those that say what children get.
func TestKindsOfNamespaces(t *testing.T) {
	e := pcr.Event{Type: pcr.EventContainer, Container: &pcr.ContainerEvent{Engine: "podman", ID: "4f1c", Cgroup: "/a", Process: pcr.ContainerProcess{Args: pcr.ContainerArgs{[]byte("x")}, Cwd: "/"}, Namespaces: kinds}}
	if _, err := e.Encode(); err != nil {
		t.Error(err)
	}
	found, err := os.ReadDir("/proc/self/ns")
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range found {
		if !slices.Contains(kinds, strings.TrimSuffix(x.Name(), "_for_children")) {
			t.Errorf("the kernel has namespaces of the kind %s", x.Name())
		}
	}
}

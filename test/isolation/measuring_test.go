// SPDX-License-Identifier: Apache-2.0

package isolation

import (
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/test/simulated"
)

// measureChanged is what a unit does that starts after its program was replaced. It takes a
// record, of which an app gets only so many, and so goes over several apps.
func (m *machine) measureChanged() party {
	m.t.Helper()
	p := m.measure()
	p.Path, p.Requests, p.For, p.Pause = "/v1/apps/changed%I/measure", 12, 0, 0
	for i := range 4 {
		name := filepath.Join(m.files, fmt.Sprintf("changed%d", i))
		must(m.t, os.WriteFile(name, []byte("first"), 0o755))
		m.declare(fmt.Sprintf("changed%d", i), "root", name)
		p.Replace = append(p.Replace, name)
	}
	if m.PID() != 0 {
		admin := m.Admin()
		defer admin.Close()
		_, err := admin.Reload(m.t.Context())
		must(m.t, err)
	}
	return p
}

// An app that keeps the agent hashing does not delay the measurement of another one: its own
// user makes its files large, and touches them all the time.
func TestLargeFilesThatChange(t *testing.T) {
	m := switchOn(t)
	attack := m.asOther(party{Connections: 1, Pause: time.Second, Size: 4 << 30})
	for i := range 4 {
		name := filepath.Join(m.files, fmt.Sprintf("large%d", i))
		must(t, os.WriteFile(name, nil, 0o644))
		must(t, os.Chown(name, int(attack.UID), -1))
		attack.Touch = append(attack.Touch, name)
	}
	m.declare("other", m.other.Username, attack.Touch...)
	changed, work := m.measureChanged(), m.measure()
	work.Requests, work.For = 5, 2*time.Second
	m.compare(work, 5, attack)
	changed.Pause = 100 * time.Millisecond
	m.compare(changed, 5, attack)
}

// Case 108: a reload that changes nothing appends nothing, however often it is asked for.
func TestReloadsWithoutNews(t *testing.T) {
	m := prepare(t, setup{})
	var err error
	m.manager, err = simulated.NewManager(filepath.Dir(m.Dir))
	must(t, err)
	t.Cleanup(func() { m.manager.Close() })
	reloaded := make(chan bool, 1<<16)
	go func() {
		for {
			state, err := m.manager.Receive()
			if err != nil {
				return
			}
			if state == "READY=1" {
				reloaded <- true
			}
		}
	}()
	m.start()
	<-reloaded
	work := m.measure()
	work.Requests, work.For = 1, 0
	start(t, work).end(false)
	before, err := m.Client().Status(t.Context())
	must(t, err)
	for range 1000 {
		must(t, m.Reload())
		select {
		case <-reloaded:
		case <-time.After(patience):
			t.Fatal("a reload does not end")
		}
	}
	after, err := m.Client().Status(t.Context())
	must(t, err)
	if after.Ledger.Records != before.Ledger.Records || after.Ledger.Bytes != before.Ledger.Bytes {
		t.Errorf("after 1,000 reloads without news the log has %d records, before %d", after.Ledger.Records, before.Ledger.Records)
	}
	m.declare("news", "root", "/bin/true")
	must(t, m.Reload())
	<-reloaded
	until(t, "news is recorded", func() bool {
		last, err := m.Client().Status(t.Context())
		must(t, err)
		return last.Ledger.Records > after.Ledger.Records
	})
}

// An agent that may not watch files says so, and why: a change is then found late. The limits of
// inotify are those of a user namespace, so that the test takes nothing from others.
func TestWatchingThatStopped(t *testing.T) {
	for _, limit := range []string{"max_inotify_instances", "max_inotify_watches"} {
		t.Run(limit, func(t *testing.T) {
			m := prepare(t, setup{})
			m.change = func(c *exec.Cmd) error {
				all := []syscall.SysProcIDMap{{Size: math.MaxUint32}}
				c.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
				c.SysProcAttr.UidMappings, c.SysProcAttr.GidMappings = all, all
				c.Args = append([]string{"sh", "-c", "echo 1 >/proc/sys/user/" + limit + ` && exec "$@"`, "sh", c.Path}, c.Args[1:]...)
				if limit == "max_inotify_instances" {
					c.Args[2] = strings.Replace(c.Args[2], "echo 1", "echo 0", 1)
				}
				var err error
				c.Path, err = exec.LookPath("sh")
				return err
			}
			m.start()
			until(t, "status says that files are not watched", func() bool {
				s, err := m.Client().Status(t.Context())
				must(t, err)
				// While files are read, more watches fail, and the reason counts them.
				return s.Watch.State == api.StateDegraded && s.Watch.Reason != "" && s.Apps.Unmeasured == 0
			})
			s, err := m.Client().Status(t.Context())
			must(t, err)
			t.Logf("%+v", s.Watch)
			for _, command := range []string{"status", "doctor"} {
				if text := m.agentctl(command); !strings.Contains(text, s.Watch.Reason) {
					t.Errorf("agentctl %s does not say that %s:\n%s", command, s.Watch.Reason, text)
				}
			}
		})
	}
}

// SPDX-License-Identifier: Apache-2.0

package containers

import "testing"

// device returns a change of a configuration: one more device, of these numbers.
func device(major, minor int64) func(map[string]any) {
	return func(m map[string]any) {
		linux := m["linux"].(map[string]any)
		linux["devices"] = append(linux["devices"].([]any), map[string]any{"path": "/dev/x", "type": "c", "major": major, "minor": minor})
	}
}

// TestNotFoundBeforeItsRecord: evidence names no container, and no caller counts as one in it, before
// its record is in the log.
func TestNotFoundBeforeItsRecord(t *testing.T) {
	b := newBed(nil)
	defer b.Close()
	c := create(t, b.groups, spec())
	inside := c.peer()
	asked := false
	b.log.before = func() {
		if asked = true; b.In(inside) != nil || b.Beside(inside) || len(b.List()) != 0 {
			t.Error("the container is found, and no record names it")
		}
	}
	if _, err := b.Record(t.Context(), hook, c.request("4f1c")); err != nil || !asked {
		t.Fatal(err, asked)
	}
	if b.In(inside) == nil || !b.Beside(inside) || len(b.List()) != 1 {
		t.Error("the container is not found")
	}
}

// TestGroupOfOneThatEnded: a container in the control group of one that ended takes its place, also if
// something kept the group.
func TestGroupOfOneThatEnded(t *testing.T) {
	b := newBed(nil)
	defer b.Close()
	first, second := create(t, b.groups, spec()), create(t, b.groups, spec())
	r := first.request("4f1c")
	if _, err := b.Record(t.Context(), hook, r); err != nil {
		t.Fatal(err)
	}
	inode := b.groups.inodes[first.group]
	first.end()
	pid := second.cmd.Process.Pid
	b.groups.change(func() {
		b.groups.of[pid], b.groups.pids[first.group], b.groups.inodes[first.group] = first.group, []int{pid}, inode
	})
	if _, err := b.Record(t.Context(), hook, second.request("9a9a")); err != nil {
		t.Fatal(err)
	}
	if len(b.running) != 1 || b.running[key{r.Engine, "9a9a"}] == nil {
		t.Errorf("%d containers are followed", len(b.running))
	}
}

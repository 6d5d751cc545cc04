// SPDX-License-Identifier: Apache-2.0

package durabletest

import (
	"reflect"
	"testing"

	"github.com/cvm-agentd/agentd/internal/durable"
)

// TestEveryCallIsAStep: a system call that is added to the interfaces of package durable
// is one that a crash matrix breaks, from its first day.
func TestEveryCallIsAStep(t *testing.T) {
	var faults Faults
	p := &process{NewDisk(&faults)}
	f := &file{p: p, name: "f", i: &inode{}}
	for _, c := range []struct {
		as  reflect.Type
		its reflect.Value
	}{
		{reflect.TypeFor[durable.System](), reflect.ValueOf(p)},
		{reflect.TypeFor[durable.File](), reflect.ValueOf(f)},
	} {
		for i := range c.as.NumMethod() {
			m := c.as.Method(i)
			if c.its.Interface() == any(p) && m.Name == "Close" {
				continue // nothing depends on it
			}
			var arguments []reflect.Value
			for j := range m.Type.NumIn() {
				arguments = append(arguments, reflect.Zero(m.Type.In(j)))
			}
			before, _ := faults.Steps()
			c.its.MethodByName(m.Name).Call(arguments)
			if after, _ := faults.Steps(); after != before+1 {
				t.Errorf("%s.%s is %d steps, want 1", c.as.Name(), m.Name, after-before)
			}
		}
	}
}

// SPDX-License-Identifier: Apache-2.0

package apps

import "testing"

// TestInterpreterOnly: the status says of what was measured whether it is an interpreter alone,
// and no more once the program is declared too (case 110).
func TestInterpreterOnly(t *testing.T) {
	w := newWorld(t)
	java := w.write("bin/java", "virtual machine", 0o755)
	w.declare("app", list("files", java))
	w.reload()
	if s := w.app("app"); !s.Measured || s.Interpreter != java {
		t.Errorf("an interpreter alone: %+v", s)
	}
	if a := describe(w.app("app")); a.Interpreter != java {
		t.Errorf("described as %+v", a)
	}
	w.declare("app", list("files", java, w.write("app.jar", "classes", 0o644)))
	w.reload()
	if s := w.app("app"); !s.Measured || s.Interpreter != "" {
		t.Errorf("with what it runs: %+v", s)
	}
}

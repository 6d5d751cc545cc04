// SPDX-License-Identifier: Apache-2.0

package coverage

import (
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/evidence"
)

// TestContentBetween upgrades two applications while their agent watches: one by renaming a new
// file over the old one, one by way of another content. A verifier accepts the first as
// unbroken, and refuses the second, although the log lists digests of the same contents. Case 114.
func TestContentBetween(t *testing.T) {
	b := newBed(t)
	b.declare("renamed")
	b.declare("written")
	b.start()
	for end := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		st, err := b.machine.Client().Status(t.Context())
		must(t, err)
		if st.Watch.State == api.StateOK {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("nothing watches: %+v", st.Watch)
		}
	}
	first := make(map[string]*evidence.Digest)
	for _, app := range []string{"renamed", "written"} {
		b.covered(app)
		first[app] = b.app(app).Digest
	}
	main := b.path("written", "bin", "main")
	must(t, errors.Join(os.WriteFile(main, []byte("evil"), 0o755), os.WriteFile(main, []byte("upgraded"), 0o755)))
	main = b.path("renamed", "bin", "main")
	must(t, errors.Join(os.WriteFile(main+".new", []byte("upgraded"), 0o755), os.Chmod(main+".new", 0o755), os.Rename(main+".new", main)))
	for app, digest := range first {
		for end := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
			if a := b.app(app); a.Digest != nil && *a.Digest != *digest {
				break
			}
			if time.Now().After(end) {
				t.Fatalf("%s is not measured again: %+v", app, b.app(app))
			}
		}
	}
	said := b.said()
	if !strings.HasSuffix(said["renamed"], "app; ") || strings.Contains(said["renamed"], "unmeasured") {
		t.Errorf("of a file that was replaced by one rename, the log says %q", said["renamed"])
	}
	if !strings.HasSuffix(said["written"], "main\" was not replaced by renaming one new file over it; app; ") {
		t.Errorf("of a file that was written in place, the log says %q", said["written"])
	}
	for app, want := range map[string]int{"renamed": 0, "written": 5} {
		code, out := b.judgeDigests(app, *first[app], *b.app(app).Digest)
		if code != want || want != 0 && !strings.Contains(out, "policy.app-covered") {
			t.Errorf("%s: the verifier ends with %d, want %d: %s", app, code, want, out)
		}
	}
}

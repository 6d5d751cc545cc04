// SPDX-License-Identifier: Apache-2.0

package test

import (
	"fmt"
	"testing"
	"time"
)

// TestPolicyTurns: a new version of a policy is in force for the next appraisal of each worker, also if
// another worker put it. A token is for the audience of its own policy and version.
func TestPolicyTurns(t *testing.T) {
	onEach(t, func(t *testing.T, b *bed) {
		workers, alice := []*worker{b.start("one"), b.start("two")}, b.alice()
		refusing := easy + "[caller]\nunit = \"other.service\"\n"
		for i, text := range []string{easy, refusing, easy, refusing} {
			audience := fmt.Sprintf("https://%d.example", i)
			for _, name := range []string{"default", "web"} {
				if code, out := workers[i%2].put(alice, name, text, audience+"/"+name, nil); code != 200 {
					t.Fatalf("%d, %v", code, out)
				}
			}
			for _, w := range workers {
				for name, other := range map[string]string{"default": "web", "web": "default"} {
					code, a := w.appraise("/p/"+name, nil)
					if code != 200 || (a.Appraisal.Verdict == "pass") != (text == easy) || (a.Token != "") != (text == easy) {
						t.Fatalf("%s, version %d, at %s: %d, %s %v", name, i+1, w.name, code, a.Appraisal.Verdict, a.failed())
					}
					if text != easy {
						continue
					}
					if _, err := w.read(a.Token, audience+"/"+name, time.Now()); err != nil {
						t.Errorf("%s, version %d: %v", name, i+1, err)
					}
					if _, err := w.read(a.Token, audience+"/"+other, time.Now()); err == nil {
						t.Errorf("%s, version %d: its token is for the audience of %s", name, i+1, other)
					}
				}
			}
		}
	})
}

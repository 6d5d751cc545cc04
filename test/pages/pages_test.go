// SPDX-License-Identifier: Apache-2.0

package pages

import (
	"fmt"
	"strings"
	"testing"
)

const example = `# Title

Type ` + "`agentctl doctor`" + `, and ` + "`agentctl key\nlist`" + `. ` + "`agentctl`" + ` alone, ` + "`/usr/sbin/agentd`" + ` and ` + "`[caller] unit`" + ` are not commands.

## One

` + "```sh\nmake build\nagentctl app list # lists\n```" + `

It prints

` + "```text\na: measured\n```" + `

## Two

    make package                # both
    systemctl status agentd

    agentctl: an error, not a command

- a list
  goes on

      indented in a list

| a | run |
|---|---|
| b | ` + "`modprobe sev-guest`, then `systemctl restart agentd`" + ` |

    # /etc/one
    agentctl not a command

    # /etc/two
    b = 1
`

func TestRead(t *testing.T) {
	p := &Page{Name: "example"}
	if err := p.read(strings.Split(example, "\n")); err != nil {
		t.Fatal(err)
	}
	var got strings.Builder
	for _, c := range p.Commands() {
		fmt.Fprintf(&got, "%s:%d:%s\n", c.Heading, c.Line, strings.ReplaceAll(c.Text, "\n", ";"))
	}
	const want = `:3:agentctl doctor
:3:agentctl key list
One:9:make build;agentctl app list # lists;
Two:21:make package
Two:22:systemctl status agentd
Two:33:modprobe sev-guest
Two:33:systemctl restart agentd
`
	if got.String() != want {
		t.Errorf("commands:\n%s", got.String())
	}
	for path, want := range map[string]string{"/etc/one": "agentctl not a command\n", "/etc/two": "b = 1\n"} {
		if content, err := p.File(path); err != nil || content != want {
			t.Errorf("%s: %q, %v", path, content, err)
		}
	}
	if _, err := p.File("/etc/three"); err == nil {
		t.Error("a file that is not shown is found")
	}
	if b, err := p.Under("One", "text"); err != nil || len(b) != 1 || b[0].Text != "a: measured\n" {
		t.Errorf("%+v, %v", b, err)
	}
	if _, err := p.Under("One", "go"); err == nil {
		t.Error("a block that is not there is found")
	}
	if err := new(Page).read([]string{"```sh", "make"}); err == nil {
		t.Error("a block without an end is accepted")
	}
}

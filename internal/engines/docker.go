// SPDX-License-Identifier: Apache-2.0

package engines

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/cvm-agentd/agentd/internal/strictjson"
)

// Members of daemon.json (dockerd(8)).
const (
	memberRuntimes = "runtimes"
	memberDefault  = "default-runtime"
)

// daemon is what is read of a daemon.json.
type daemon struct {
	Runtimes map[string]jsontext.Value `json:"runtimes"`
	Default  string                    `json:"default-runtime"`
}

// parseDaemon reads a daemon.json. Docker's own reader takes members in any case, and the last of
// two; [strictjson] refuses the latter, and members in another case are refused here.
func parseDaemon(content []byte) (d daemon, path string, err error) {
	if len(bytes.TrimSpace(content)) == 0 {
		return d, "", nil
	}
	if err := strictjson.DecodeForeign(content, maxFile, &d); err != nil {
		return d, "", fmt.Errorf("it is not what docker reads, or can be read in two ways: %w", err)
	}
	members := map[string]jsontext.Value{}
	if err := json.Unmarshal(content, &members); err != nil {
		return d, "", err
	}
	for name := range members {
		for _, known := range []string{memberRuntimes, memberDefault} {
			if name != known && strings.EqualFold(name, known) {
				return d, "", fmt.Errorf("member %+q is %q in another case: correct it first", name, known)
			}
		}
	}
	if r, ok := d.Runtimes[runtimeName]; ok {
		var runtime struct {
			Path string `json:"path"`
		}
		if err := json.Unmarshal(r, &runtime); err != nil {
			return d, "", fmt.Errorf("runtime %q: %w", runtimeName, err)
		}
		if path = runtime.Path; !ours("docker", path) {
			return d, "", fmt.Errorf("runtime %q has the path %q, which is not of this package: rename that runtime", runtimeName, path)
		}
	}
	return d, path, nil
}

func dockerState(content []byte) (State, error) {
	d, path, err := parseDaemon(content)
	switch {
	case err != nil:
		return "", err
	case path == "":
		return Disabled, nil
	case d.Default == runtimeName:
		return Enabled, nil
	}
	return Partly, nil
}

func enableDocker(content []byte, runtime string) ([]byte, error) {
	d, path, err := parseDaemon(content)
	if err != nil {
		return nil, err
	}
	if d.Default != "" && d.Default != runtimeName && d.Default != "runc" && d.Default != "io.containerd.runc.v2" {
		return nil, fmt.Errorf("the default runtime is %q, and containers of another runtime are not measured: remove %q first", d.Default, memberDefault)
	}
	if path == runtimePath("docker", runtime) && d.Default == runtimeName {
		return content, nil
	}
	entry, err := strictjson.Encode(map[string]string{"path": runtimePath("docker", runtime)})
	if err != nil {
		return nil, err
	}
	return editDaemon(content, func(o *object) error {
		runtimes, err := parseObject(o.get(memberRuntimes))
		if err != nil {
			return err
		}
		runtimes.set(runtimeName, entry)
		o.set(memberRuntimes, runtimes.encode())
		o.set(memberDefault, jsontext.Value(`"`+runtimeName+`"`))
		return nil
	})
}

func disableDocker(content []byte) ([]byte, error) {
	d, path, err := parseDaemon(content)
	if err != nil || path == "" && d.Default != runtimeName {
		return content, err
	}
	return editDaemon(content, func(o *object) error {
		runtimes, err := parseObject(o.get(memberRuntimes))
		if err != nil {
			return err
		}
		runtimes.remove(runtimeName)
		if o.set(memberRuntimes, runtimes.encode()); len(runtimes.members) == 0 {
			o.remove(memberRuntimes)
		}
		if d.Default == runtimeName {
			o.remove(memberDefault)
		}
		return nil
	})
}

// editDaemon changes members of a daemon.json. The others keep their order and their values, and
// all are indented for people.
func editDaemon(content []byte, change func(*object) error) ([]byte, error) {
	o, err := parseObject(content)
	if err != nil {
		return nil, err
	}
	if err := change(o); err != nil {
		return nil, err
	}
	out, err := strictjson.Indent(o.encode())
	if err != nil {
		return nil, err
	}
	return append(out, '\n'), nil
}

// object is a JSON object whose members keep their order.
type object struct{ members []member }

type member struct {
	name  string
	value jsontext.Value
}

// parseObject reads an object; no text is an empty one.
func parseObject(text jsontext.Value) (*object, error) {
	o := new(object)
	if len(bytes.TrimSpace(text)) == 0 {
		return o, nil
	}
	d := jsontext.NewDecoder(bytes.NewReader(text))
	if d.PeekKind() != '{' {
		return nil, errors.New("want an object")
	}
	if _, err := d.ReadToken(); err != nil {
		return nil, err
	}
	for d.PeekKind() == '"' {
		name, err := d.ReadToken()
		if err != nil {
			return nil, err
		}
		m := member{name: name.String()}
		value, err := d.ReadValue()
		if err != nil {
			return nil, err
		}
		m.value = value.Clone()
		o.members = append(o.members, m)
	}
	_, err := d.ReadToken()
	return o, err
}

func (o *object) get(name string) jsontext.Value {
	for _, m := range o.members {
		if m.name == name {
			return m.value
		}
	}
	return nil
}

func (o *object) set(name string, value jsontext.Value) {
	for i := range o.members {
		if o.members[i].name == name {
			o.members[i].value = value
			return
		}
	}
	o.members = append(o.members, member{name, value})
}

func (o *object) remove(name string) {
	var left []member
	for _, m := range o.members {
		if m.name != name {
			left = append(left, m)
		}
	}
	o.members = left
}

func (o *object) encode() jsontext.Value {
	out := []byte{'{'}
	for i, m := range o.members {
		if i > 0 {
			out = append(out, ',')
		}
		name, _ := jsontext.AppendQuote(nil, m.name) // it was read from JSON
		out = append(append(append(out, name...), ':'), m.value...)
	}
	return append(out, '}')
}

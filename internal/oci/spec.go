// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"errors"
	"fmt"
	"path"
	"reflect"
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/cvm-agentd/agentd/internal/strictjson"
)

// A Spec is the part of a config.json that says what the container is (config.md). Members that
// are not here are passed over.
type Spec struct {
	Version     string                    `json:"ociVersion"`
	Process     *Process                  `json:"process"`
	Root        *Root                     `json:"root"`
	Hostname    string                    `json:"hostname"`
	Mounts      []Mount                   `json:"mounts"`
	Hooks       *Hooks                    `json:"hooks"`
	Annotations map[string]string         `json:"annotations"`
	Linux       *Linux                    `json:"linux"`
	VM          jsontext.Value            `json:"vm"` // of a virtual machine, whose files are not here
	Others      map[string]jsontext.Value `json:",embed"`
}

// Process is the first process of the container.
type Process struct {
	Terminal     bool                      `json:"terminal"`
	User         User                      `json:"user"`
	Args         []string                  `json:"args"`
	Env          []string                  `json:"env"`
	Cwd          string                    `json:"cwd"`
	Capabilities *Capabilities             `json:"capabilities"`
	NoNewPrivs   bool                      `json:"noNewPrivileges"`
	AppArmor     string                    `json:"apparmorProfile"`
	SELinux      string                    `json:"selinuxLabel"`
	Others       map[string]jsontext.Value `json:",embed"`
}

// User is who the first process runs as, in the user namespace of the container.
type User struct {
	UID    uint32                    `json:"uid"`
	GID    uint32                    `json:"gid"`
	Groups []uint32                  `json:"additionalGids"`
	Others map[string]jsontext.Value `json:",embed"`
}

// Capabilities are the sets of capabilities(7) of the first process.
type Capabilities struct {
	Bounding    []string                  `json:"bounding"`
	Effective   []string                  `json:"effective"`
	Inheritable []string                  `json:"inheritable"`
	Permitted   []string                  `json:"permitted"`
	Ambient     []string                  `json:"ambient"`
	Others      map[string]jsontext.Value `json:",embed"`
}

// Root is the root file system.
type Root struct {
	Path     string                    `json:"path"` // relative to the bundle, or absolute
	ReadOnly bool                      `json:"readonly"`
	Others   map[string]jsontext.Value `json:",embed"`
}

// Mount is mounted over the root file system.
type Mount struct {
	Destination string                    `json:"destination"`
	Type        string                    `json:"type"`
	Source      string                    `json:"source"`
	Options     []string                  `json:"options"`
	Others      map[string]jsontext.Value `json:",embed"`
}

// Hooks are programs that run beside the container.
type Hooks struct {
	Prestart        []Hook                    `json:"prestart"`
	CreateRuntime   []Hook                    `json:"createRuntime"`
	CreateContainer []Hook                    `json:"createContainer"`
	StartContainer  []Hook                    `json:"startContainer"`
	Poststart       []Hook                    `json:"poststart"`
	Poststop        []Hook                    `json:"poststop"`
	Others          map[string]jsontext.Value `json:",embed"`
}

// Hook is one program.
type Hook struct {
	Path    string                    `json:"path"`
	Args    []string                  `json:"args,omitempty"` // the first is the name of the program
	Env     []string                  `json:"env,omitempty"`
	Timeout int                       `json:"timeout,omitzero"` // in seconds
	Others  map[string]jsontext.Value `json:",embed"`
}

// Linux is what only Linux has.
type Linux struct {
	Namespaces  []Namespace               `json:"namespaces"`
	UIDMappings []IDMapping               `json:"uidMappings"`
	GIDMappings []IDMapping               `json:"gidMappings"`
	Devices     []Device                  `json:"devices"`
	CgroupsPath string                    `json:"cgroupsPath"`
	Resources   *Resources                `json:"resources"`
	Seccomp     jsontext.Value            `json:"seccomp"` // as it is written
	Masked      []string                  `json:"maskedPaths"`
	ReadOnly    []string                  `json:"readonlyPaths"`
	Propagation string                    `json:"rootfsPropagation"`
	Others      map[string]jsontext.Value `json:",embed"`
}

// Namespace is a namespace that is made, or joined if it has a path.
type Namespace struct {
	Type   string                    `json:"type"`
	Path   string                    `json:"path"`
	Others map[string]jsontext.Value `json:",embed"`
}

// IDMapping is one line of a uid_map or gid_map.
type IDMapping struct {
	Container uint32                    `json:"containerID"`
	Host      uint32                    `json:"hostID"`
	Size      uint32                    `json:"size"`
	Others    map[string]jsontext.Value `json:",embed"`
}

// Device is a node that the runtime makes in /dev.
type Device struct {
	Path   string                    `json:"path"`
	Type   string                    `json:"type"`
	Major  int64                     `json:"major"`
	Minor  int64                     `json:"minor"`
	Others map[string]jsontext.Value `json:",embed"`
}

// Resources are what the container may use.
type Resources struct {
	Devices []DeviceRule              `json:"devices"`
	Others  map[string]jsontext.Value `json:",embed"`
}

// DeviceRule allows or forbids the use of devices. Of two rules for a device the later one counts.
type DeviceRule struct {
	Allow  bool                      `json:"allow"`
	Type   string                    `json:"type"`
	Major  *int64                    `json:"major,omitzero"`
	Minor  *int64                    `json:"minor,omitzero"`
	Access string                    `json:"access"`
	Others map[string]jsontext.Value `json:",embed"`
}

// ParseSpec reads a configuration of at most [MaxConfig] bytes.
func ParseSpec(b []byte) (*Spec, error) {
	s := new(Spec)
	if err := strictjson.DecodeForeign(b, MaxConfig, s); err != nil {
		return nil, fmt.Errorf("read %s: %w", ConfigName, err)
	}
	if err := s.check(); err != nil {
		return nil, fmt.Errorf("%s: %w", ConfigName, err)
	}
	return s, nil
}

func (s *Spec) check() error {
	if err := unambiguous(reflect.ValueOf(s), ""); err != nil {
		return err
	}
	switch {
	case len(s.VM) > 0:
		return errors.New("it is for a virtual machine, whose files cannot be measured from here")
	case s.Process == nil || len(s.Process.Args) == 0:
		return errors.New("process.args is missing: nothing says what the container runs")
	case s.Root == nil || s.Root.Path == "":
		return errors.New("root.path is missing")
	case len(s.Root.Path) > MaxPath:
		return fmt.Errorf("root.path has %d bytes, want at most %d", len(s.Root.Path), MaxPath)
	case s.Linux == nil:
		return errors.New("linux is missing: the container would have no namespaces")
	}
	return nil
}

// Namespace returns the namespace of a type, and whether the container gets one of its own or joins
// another one.
func (s *Spec) Namespace(kind string) (Namespace, bool) {
	i := slices.IndexFunc(s.Linux.Namespaces, func(n Namespace) bool { return n.Type == kind })
	if i < 0 {
		return Namespace{}, false
	}
	return s.Linux.Namespaces[i], true
}

// RootPath returns the absolute path of the root file system of a container whose bundle is at an
// absolute path.
func (s *Spec) RootPath(bundle string) string {
	if path.IsAbs(s.Root.Path) {
		return path.Clean(s.Root.Path)
	}
	return path.Join(bundle, s.Root.Path)
}

// unambiguous refuses a member that only case distinguishes from one of the type, and lists that
// are too long.
func unambiguous(v reflect.Value, at string) error {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			return unambiguous(v.Elem(), at)
		}
	case reflect.Slice:
		if v.Type() == reflect.TypeFor[jsontext.Value]() {
			return nil
		}
		if v.Len() > maxList {
			return fmt.Errorf("%s has %d elements, want at most %d", at, v.Len(), maxList)
		}
		for i := range v.Len() {
			if err := unambiguous(v.Index(i), at); err != nil {
				return err
			}
		}
	case reflect.Struct:
		var known []string
		for i := range v.NumField() {
			name, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ",")
			known = append(known, name)
			if name == "" {
				continue
			}
			if err := unambiguous(v.Field(i), strings.TrimPrefix(at+"."+name, ".")); err != nil {
				return err
			}
		}
		others, _ := v.FieldByName("Others").Interface().(map[string]jsontext.Value)
		for other := range others {
			if i := slices.IndexFunc(known, func(k string) bool { return strings.EqualFold(k, other) }); i >= 0 {
				return fmt.Errorf("member %+q in another case than %q: runtimes differ in what they make of it", other, strings.TrimPrefix(at+"."+known[i], "."))
			}
		}
	}
	return nil
}

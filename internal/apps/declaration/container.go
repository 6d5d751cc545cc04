// SPDX-License-Identifier: Apache-2.0

package declaration

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/stricttoml"
)

// IsContainer reports whether an app is a container, and not files of this machine.
func (d *Declaration) IsContainer() bool { return d.Image != "" }

// imageName is the name of an image with its registry and without tag or digest.
var imageName = regexp.MustCompile(`^(localhost|[a-z0-9.-]+\.[a-z0-9-]+|[a-z0-9.-]+:[0-9]{1,5})(:[0-9]{1,5})?(/[a-z0-9]+([._-]+[a-z0-9]+)*)+$`)

// digestPrefix begins an image that is named by its digest.
const digestPrefix = "sha256:"

// Is reports whether a container of an engine, which runs in a unit or in none, is the app. Image
// reports whether an image, as a declaration names it, is the container's.
func (d *Declaration) Is(engine, unit string, image func(declared string) bool) bool {
	return d.IsContainer() && d.Engine == engine && (d.Unit == "" || evidence.InUnit(d.Unit, unit)) && image(d.Image)
}

// container completes the declaration of a container, and refuses keys that only an app of files
// has: which user it runs as, and what is in it, the log says when it starts. The gate holds up
// programs in folders of this machine only.
func (d *Declaration) container(doc *document, places *stricttoml.Places) error {
	for _, key := range []string{"user", "dynamic_user", "users", "files", "directories", "exclude", "gate"} {
		if places.Given(key) {
			return places.Errorf(key, "an app that is a container has no %s: the agent records what the container is when it starts", key)
		}
	}
	if places.Given("unit") {
		if err := checkUnit(doc.Unit); err != nil {
			return places.Errorf("unit", "%v", err)
		}
	}
	if !slices.Contains(evidence.Engines, doc.Engine) {
		return places.Errorf("engine", "%q is not known: want %s", doc.Engine, strings.Join(evidence.Engines, ", "))
	}
	if err := checkImage(doc.Image); err != nil {
		return places.Errorf("image", "%v", err)
	}
	d.Image, d.Engine = doc.Image, doc.Engine
	return nil
}

func checkImage(s string) error {
	if text, ok := strings.CutPrefix(s, digestPrefix); ok {
		if b, err := hex.DecodeString(text); err != nil || len(b) != sha256.Size || strings.ToLower(text) != text {
			return fmt.Errorf("%q is not sha256: and 64 lower-case hexadecimal digits", s)
		}
		return nil
	}
	switch last := s[strings.LastIndex(s, "/")+1:]; {
	case strings.ContainsAny(last, ":@") && strings.Contains(s, "/"):
		return errors.New("an image is named without tag and digest: a tag says nothing about its content. Policies list digests; or give sha256:HEX alone")
	case len(s) > evidence.MaxName || !imageName.MatchString(s):
		return fmt.Errorf("%q is neither sha256:HEX nor REGISTRY/NAME", s)
	}
	return nil
}

// refuseTwinContainers refuses every container app that has engine, image and unit of one with a
// smaller name.
func (s *Set) refuseTwinContainers() {
	type identity struct{ engine, image, unit string }
	first := make(map[identity]*Declaration)
	for _, name := range slices.Sorted(maps.Keys(s.Containers)) {
		d := s.Containers[name]
		id := identity{d.Engine, d.Image, d.Unit}
		if other := first[id]; other != nil {
			s.Refused[name] = &Error{File: d.File, Problem: fmt.Sprintf("image %s of %s is already that of %s", d.Image, d.Engine, other.File)}
			delete(s.Containers, name)
			continue
		}
		first[id] = d
	}
}

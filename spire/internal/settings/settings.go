// SPDX-License-Identifier: Apache-2.0

// Package settings reads the HCL that SPIRE hands to a plugin, strictly: a key that is not known would
// otherwise be ignored, and the protection that it was meant to give with it.
package settings

import (
	"fmt"
	"maps"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"github.com/hashicorp/hcl"
	configv1 "github.com/spiffe/spire-plugin-sdk/proto/spire/service/common/config/v1"
)

// maxText is how many bytes of HCL are read.
const maxText = 64 << 10

// Core is what SPIRE configures itself.
type Core struct {
	TrustDomain string // such as "example.org"
}

// Read decodes text into out, a pointer to a struct whose fields have the tag hcl.
func Read(core *configv1.CoreConfiguration, text string, out any) (Core, error) {
	c := Core{TrustDomain: core.GetTrustDomain()}
	if c.TrustDomain == "" {
		return c, fmt.Errorf("SPIRE named no trust domain")
	}
	if len(text) > maxText {
		return c, fmt.Errorf("%d bytes of configuration, at most %d", len(text), maxText)
	}
	var given map[string]any
	if err := hcl.Decode(&given, text); err != nil {
		return c, fmt.Errorf("configuration: %w", err)
	}
	known := keys(out)
	for _, k := range slices.Sorted(maps.Keys(given)) {
		if !slices.Contains(known, k) {
			return c, fmt.Errorf("configuration: %q is not a key: want one of %s", k, strings.Join(known, ", "))
		}
		if list, ok := given[k].([]map[string]any); ok && len(list) > 0 {
			return c, fmt.Errorf("configuration: %q is not a block", k)
		}
	}
	if err := hcl.Decode(out, text); err != nil {
		return c, fmt.Errorf("configuration: %w", err)
	}
	return c, nil
}

func keys(out any) (names []string) {
	t := reflect.TypeOf(out).Elem()
	for f := range t.Fields() {
		names = append(names, f.Tag.Get("hcl"))
	}
	return names
}

// Path returns why a path cannot be used.
func Path(key, path string) error {
	if !filepath.IsAbs(path) || filepath.Clean(path) != path {
		return fmt.Errorf("configuration: %s = %q: want an absolute path in its shortest form", key, path)
	}
	return nil
}

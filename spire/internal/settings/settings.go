// SPDX-License-Identifier: Apache-2.0

// Package settings reads the HCL that SPIRE hands to a plugin, strictly: a key that is not known, or that is
// there twice, would otherwise be ignored, and the protection that it was meant to give with it.
package settings

import (
	"errors"
	"fmt"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"github.com/hashicorp/hcl"
	"github.com/hashicorp/hcl/hcl/ast"
	"github.com/hashicorp/hcl/hcl/token"
	configv1 "github.com/spiffe/spire-plugin-sdk/proto/spire/service/common/config/v1"
)

// maxText is how many bytes of HCL are read.
const maxText = 64 << 10

// Core is what SPIRE configures itself.
type Core struct {
	TrustDomain string // such as "example.org"
}

// Read decodes text into out, a pointer to a struct whose fields are strings with the tag hcl.
func Read(core *configv1.CoreConfiguration, text string, out any) (Core, error) {
	c := Core{TrustDomain: core.GetTrustDomain()}
	if c.TrustDomain == "" {
		return c, fmt.Errorf("SPIRE named no trust domain")
	}
	if len(text) > maxText {
		return c, fmt.Errorf("%d bytes of configuration, at most %d", len(text), maxText)
	}
	file, err := hcl.Parse(text)
	if err != nil {
		return c, fmt.Errorf("configuration: %w", err)
	}
	if err := check(file, keys(out)); err != nil {
		return c, fmt.Errorf("configuration: %w", err)
	}
	if err := hcl.DecodeObject(out, file); err != nil {
		return c, fmt.Errorf("configuration: %w", err)
	}
	return c, nil
}

// check checks that each known key is there once at most, with a text, and no other key.
func check(file *ast.File, known []string) error {
	list, ok := file.Node.(*ast.ObjectList)
	if !ok {
		return errors.New("want lines such as key = \"text\"")
	}
	given := make(map[string]bool)
	for _, item := range list.Items {
		k := fmt.Sprint(item.Keys[0].Token.Value())
		literal, ok := item.Val.(*ast.LiteralType)
		switch {
		case !slices.Contains(known, k):
			return fmt.Errorf("%q is not a key: want one of %s", k, strings.Join(known, ", "))
		case given[k]:
			return fmt.Errorf("%q is there twice", k)
		case !ok || len(item.Keys) != 1 || literal.Token.Type != token.STRING:
			return fmt.Errorf("%q: want a text in quotation marks", k)
		}
		given[k] = true
	}
	return nil
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

// SPDX-License-Identifier: Apache-2.0

package unitfile

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// maxListed is the number of names that Services returns at most.
const maxListed = 10_000

// Services returns the names of the services below root that systemd finds files of,
// sorted. A template is listed by its own name: its instances are not files.
func Services(root string) []string {
	var out []string
	for _, folder := range folders {
		entries, err := os.ReadDir(filepath.Join(root, folder))
		if err != nil {
			continue
		}
		for _, e := range entries {
			name := e.Name()
			if len(out) < maxListed && !e.IsDir() && strings.HasSuffix(name, ".service") && CheckName(name) == nil {
				out = append(out, name)
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/image"
)

const policyImageUsage = `Usage: agentctl policy image-reference --app NAME [flags] IMAGE

Compute the digests of an image of containers, without an engine. The command prints a
[[container]] rule, with the digest that the agent finds for the root file system of a
container of this image. Nothing is recorded.

IMAGE is a layout of OCI (a folder, or a tar archive that is not compressed) or an
archive of docker save. Layers may be compressed by gzip or zstd. Every digest in the
image is checked; who made the image, it does not say.

Of what engines make themselves (/etc/hosts, /dev and the like), the digest has
nothing. If you mount a file or a folder over an empty file of the image, name it with
--mount: the agent leaves such a file out too.

  --app NAME             the application, by the name of its declaration; required
  --name NAME            the image, if there are several in IMAGE: its tag, or registry,
                         name and tag
  --mount PATH           path in the container that is mounted over; may be repeated
  --json                 what was found, as JSON

Examples:
  skopeo copy docker://registry.example/ledger:1.4 oci:ledger:1.4
  agentctl policy image-reference --app ledger ledger >> policy.toml
  podman save --output ledger.tar registry.example/ledger:1.4
  agentctl policy image-reference --app ledger --mount /etc/ledger.conf ledger.tar
`

// imageReferenced is what policy image-reference prints as JSON.
type imageReferenced struct {
	App      string           `json:"app"`               // as given
	Root     evidence.Digest  `json:"root"`              // digest of the root file system, as the agent finds it
	Files    uint64           `json:"files"`             // number of files in it
	Bytes    uint64           `json:"bytes"`             // their bytes
	Config   evidence.Digest  `json:"config"`            // SHA-256 of the configuration, which engines call image id
	Manifest *evidence.Digest `json:"manifest,omitzero"` // SHA-256 of the manifest; absent of an archive of docker save
	Layers   int              `json:"layers"`            // number of layers
	Args     []string         `json:"args,omitempty"`    // that the image has a container run
	User     string           `json:"user,omitzero"`     // that the image names; absent for root
	Volumes  []string         `json:"volumes,omitempty"` // folders over which engines mount a volume
}

func policyImageCommand(t *terminal) *cobra.Command {
	var app string
	var o image.Options
	var mounts []string
	c := command("image-reference", policyImageUsage, arguments("IMAGE"), func(c *cobra.Command, args []string) error {
		if app == "" {
			return misuse(errors.New("--app is missing: name the application, as its declaration is named")).withHint(helpHint(c))
		}
		for _, m := range mounts {
			if !strings.HasPrefix(m, "/") {
				return misuse(fmt.Errorf("--mount %q is not an absolute path", m)).withHint(helpHint(c))
			}
		}
		o.Mounted = func(p string) bool { return slices.Contains(mounts, p) }
		x, err := image.Read(c.Context(), args[0], o)
		if err != nil {
			return misuse(err)
		}
		slices.Sort(x.Volumes)
		return t.writeImage(&imageReferenced{
			App: app, Root: x.Root.Digest, Files: x.Root.Files, Bytes: x.Root.Bytes, Config: x.Config, Manifest: x.Manifest,
			Layers: x.Layers, Args: x.Args, User: x.User, Volumes: x.Volumes,
		})
	})
	c.Flags().StringVar(&app, "app", "", "")
	c.Flags().StringVar(&o.Name, "name", "", "")
	c.Flags().StringArrayVar(&mounts, "mount", nil, "")
	return c
}

// writeImage prints the digests of an image, or the rule that lists them.
func (t *terminal) writeImage(v *imageReferenced) error {
	if t.json {
		return t.writeJSON(v)
	}
	fmt.Fprintf(t.out, "# %s, %s, manifest %s\n", count(v.Layers, "layer"), count(int(v.Files), "file"), digestOr(v.Manifest, "not given"))
	fmt.Fprintf(t.out, "[[container]]\nname = %q\nroots = [%q]\nimages = [%q]\n", v.App, v.Root, v.Config)
	if len(v.Args) > 0 && !slices.ContainsFunc(v.Args, func(s string) bool { return cleanLine(s) != s }) {
		var args []string
		for _, a := range v.Args {
			args = append(args, strconv.Quote(a))
		}
		fmt.Fprintf(t.out, "args = [%s]\n", strings.Join(args, ", "))
	}
	for _, m := range v.Volumes {
		fmt.Fprintf(t.out, "# The image has a volume at %q. Engines mount over it, so add it to mounts, and nothing in it is measured.\n", m)
	}
	_, err := fmt.Fprintln(t.out)
	return err
}

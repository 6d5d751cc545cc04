// SPDX-License-Identifier: Apache-2.0

// Package image reads images of containers without an engine: layouts of OCI (image-spec,
// image-layout.md), in a folder or a tar archive, and archives of docker save. It applies their
// layers, and computes the digest that package rootfs finds for the mounted root file system.
//
// An image may come from an attacker. Each digest in it is checked, from the index to what each
// layer unpacks to. Nothing is written, no entry leads out of the tree, and there are caps on all
// that costs.
package image

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"runtime"
	"strings"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/durable"
	"github.com/cvm-agentd/agentd/internal/rootfs"
	"github.com/cvm-agentd/agentd/internal/strictjson"
	"github.com/cvm-agentd/agentd/pcr"
)

// maxDocument is the largest index, manifest or configuration that is read, in bytes.
const maxDocument = 8 << 20

// maxLayers is how many layers an image may have.
const maxLayers = 512

// Options say which image, and which files of it count.
type Options struct {
	Name    string            // of the image, if there are several: a tag, or registry, name and tag
	Mounted func(string) bool // as in rootfs.Options; nil: nothing is mounted
}

// Image is what an image is.
type Image struct {
	Config   evidence.Digest   // SHA-256 of the configuration, which engines call image id
	Manifest *evidence.Digest  // SHA-256 of the manifest; nil of an archive of docker save, which has another one
	Layers   int               // number of layers
	Root     pcr.ContainerRoot // of the layers together
	Args     []string          // that the image has a container run
	User     string            // that the configuration names, empty for root
	Volumes  []string          // folders over which engines mount an empty volume
}

// configuration is the part of the configuration of an image that is used.
type configuration struct {
	Architecture string `json:"architecture"`
	OS           string `json:"os"`
	RootFS       struct {
		Type    string   `json:"type"`
		DiffIDs []string `json:"diff_ids"`
	} `json:"rootfs"`
	Config struct {
		User       string              `json:"User"`
		Entrypoint []string            `json:"Entrypoint"`
		Cmd        []string            `json:"Cmd"`
		Volumes    map[string]struct{} `json:"Volumes"`
	} `json:"config"`
}

// Read reads an image in a folder or an archive.
func Read(ctx context.Context, name string, o Options) (*Image, error) {
	s, err := openSource(name)
	if err != nil {
		return nil, err
	}
	defer s.close()
	r := &reader{source: s, budget: budget{ctx: ctx, bytes: maxUnpacked, entries: maxEntries}, options: o}
	x, err := r.image()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return x, nil
}

// reader reads one image.
type reader struct {
	source  source
	budget  budget
	options Options
}

// layer is where a layer is, and the digest of its bytes as they are there, if that is known.
type layer struct {
	name   string
	digest *evidence.Digest
	size   int64
}

func (r *reader) image() (*Image, error) {
	f, err := r.source.open("index.json")
	if errors.Is(err, fs.ErrNotExist) {
		return r.docker()
	}
	if err != nil {
		return nil, fmt.Errorf("index.json: %w", err)
	}
	f.Close()
	return r.oci()
}

// finish reads the configuration and applies the layers.
func (r *reader) finish(x *Image, config []byte, layers []layer) (*Image, error) {
	var c configuration
	if err := strictjson.DecodeForeign(config, maxDocument, &c); err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	switch {
	case c.RootFS.Type != "layers":
		return nil, fmt.Errorf("configuration: rootfs of the type %q, want layers", c.RootFS.Type)
	case len(c.RootFS.DiffIDs) != len(layers) || len(layers) > maxLayers:
		return nil, fmt.Errorf("the configuration has %d layers and the manifest %d, want as many, and at most %d", len(c.RootFS.DiffIDs), len(layers), maxLayers)
	case c.OS != "linux":
		return nil, fmt.Errorf("it is an image for %q, want linux", c.OS)
	}
	t := newTree()
	for i, l := range layers {
		want, err := parseDigest(c.RootFS.DiffIDs[i])
		if err == nil {
			err = r.layer(t, l, want)
		}
		if err != nil {
			return nil, fmt.Errorf("layer %d of %d: %w", i+1, len(layers), err)
		}
	}
	mounted := r.options.Mounted
	s := rootfs.NewSum(func(p string) bool { return rootfs.OfEngine(p) || mounted != nil && mounted(p) })
	if err := t.root.sum("", s); err != nil {
		return nil, err
	}
	x.Config, x.Layers, x.Root = sha256.Sum256(config), len(layers), s.Root()
	x.Args, x.User = append(c.Config.Entrypoint, c.Config.Cmd...), c.Config.User
	for v := range c.Config.Volumes {
		x.Volumes = append(x.Volumes, v)
	}
	return x, nil
}

// layer applies one layer, and checks its digests.
func (r *reader) layer(t *tree, l layer, unpacked evidence.Digest) error {
	f, err := r.source.open(l.name)
	if err != nil {
		return err
	}
	defer f.Close()
	packed := &metered{r: f, sum: sha256.New(), budget: &budget{ctx: r.budget.ctx, bytes: maxUnpacked}}
	if err := t.apply(packed, unpacked, &r.budget); err != nil {
		return err
	}
	if l.digest == nil {
		return nil
	}
	if _, err := io.Copy(io.Discard, packed); err != nil {
		return err
	}
	size := maxUnpacked - packed.budget.bytes
	if got := evidence.Digest(packed.sum.Sum(nil)); got != *l.digest || size != l.size {
		return fmt.Errorf("%s is sha256:%s of %d bytes, and the manifest has sha256:%s of %d", l.name, got, size, *l.digest, l.size)
	}
	return nil
}

// read returns a file of at most maxDocument bytes.
func (r *reader) read(name string) ([]byte, error) {
	f, err := r.source.open(name)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	defer f.Close()
	b, err := durable.ReadAll(f, maxDocument)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return b, nil
}

// parseDigest parses "sha256:" and hexadecimal.
func parseDigest(s string) (d evidence.Digest, err error) {
	text, ok := strings.CutPrefix(s, "sha256:")
	b, err := hex.DecodeString(text)
	if !ok || err != nil || len(b) != len(d) || strings.ToLower(text) != text {
		return d, fmt.Errorf("digest %.80q, want sha256: and 64 lower-case hexadecimal digits", s)
	}
	return evidence.Digest(b), nil
}

// fits reports whether an image is for this machine, as far as it says.
func fits(os, architecture string) bool {
	return (os == "" || os == "linux") && (architecture == "" || architecture == runtime.GOARCH)
}

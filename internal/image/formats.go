// SPDX-License-Identifier: Apache-2.0

package image

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/strictjson"
)

// descriptor names a file by its content (image-spec, descriptor.md).
type descriptor struct {
	MediaType   string            `json:"mediaType"`
	Digest      string            `json:"digest"`
	Size        int64             `json:"size"`
	Annotations map[string]string `json:"annotations"`
	Platform    struct {
		OS           string `json:"os"`
		Architecture string `json:"architecture"`
	} `json:"platform"`
}

// Names of an image in an index.
const (
	refName   = "org.opencontainers.image.ref.name"
	imageName = "io.containerd.image.name" // of docker save
)

// manifest is an index or a manifest of an image.
type manifest struct {
	Manifests []descriptor `json:"manifests"` // of an index
	Config    descriptor   `json:"config"`    // of a manifest
	Layers    []descriptor `json:"layers"`    // likewise
}

// blobName is the file with a digest.
func blobName(d evidence.Digest) string { return "blobs/sha256/" + d.String() }

// blob reads what a descriptor names, and checks its size and digest.
func (r *reader) blob(d *descriptor) ([]byte, evidence.Digest, error) {
	want, err := parseDigest(d.Digest)
	if err != nil {
		return nil, want, err
	}
	b, err := r.read(blobName(want))
	if err != nil {
		return nil, want, err
	}
	if got := evidence.Digest(sha256.Sum256(b)); got != want || int64(len(b)) != d.Size {
		return nil, want, fmt.Errorf("%s is sha256:%s of %d bytes, and the descriptor says %d bytes", blobName(want), got, len(b), d.Size)
	}
	return b, want, nil
}

// oci reads a layout of OCI.
func (r *reader) oci() (*Image, error) {
	b, err := r.read("index.json")
	if err != nil {
		return nil, err
	}
	var m manifest
	x := new(Image)
	name := r.options.Name
	for depth := 0; ; depth++ {
		m = manifest{}
		if err := strictjson.DecodeForeign(b, maxDocument, &m); err != nil {
			return nil, fmt.Errorf("index or manifest: %w", err)
		}
		if m.Manifests == nil {
			break
		}
		if depth == 4 {
			return nil, errors.New("an index in an index in an index: want an image")
		}
		d, err := choose(m.Manifests, name)
		if err != nil {
			return nil, err
		}
		var digest evidence.Digest
		if b, digest, err = r.blob(d); err != nil {
			return nil, err
		}
		x.Manifest, name = &digest, "" // a name is of the first index
	}
	if x.Manifest == nil {
		return nil, errors.New("index.json names no manifest")
	}
	config, _, err := r.blob(&m.Config)
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	var layers []layer
	for _, d := range m.Layers {
		digest, err := parseDigest(d.Digest)
		if err != nil {
			return nil, err
		}
		layers = append(layers, layer{name: blobName(digest), digest: &digest, size: d.Size})
	}
	return r.finish(x, config, layers)
}

// choose returns the image with a name, or the only one for this machine.
func choose(all []descriptor, name string) (*descriptor, error) {
	var found []*descriptor
	var names []string
	for i := range all {
		d := &all[i]
		if !fits(d.Platform.OS, d.Platform.Architecture) {
			continue
		}
		own := []string{d.Annotations[refName], d.Annotations[imageName], d.Digest}
		names = append(names, strings.Join(slices.DeleteFunc(own[:2:2], func(s string) bool { return s == "" }), " or "))
		if name == "" || slices.Contains(own, name) {
			found = append(found, d)
		}
	}
	switch {
	case len(found) == 1:
		return found[0], nil
	case len(found) == 0:
		return nil, fmt.Errorf("no image for this machine with the name %q: there are %q", name, names[:min(len(names), 20)])
	}
	return nil, fmt.Errorf("%d images for this machine, name one: there are %q", len(found), names[:min(len(names), 20)])
}

// saved is an element of manifest.json of docker save.
type saved struct {
	Config   string   `json:"Config"`
	RepoTags []string `json:"RepoTags"`
	Layers   []string `json:"Layers"`
}

// docker reads an archive of docker save that is not a layout of OCI.
func (r *reader) docker() (*Image, error) {
	b, err := r.read("manifest.json")
	if err != nil {
		return nil, fmt.Errorf("it has neither an index.json (OCI) nor a manifest.json (docker save): %w", err)
	}
	var all []saved
	if err := strictjson.DecodeForeign(b, maxDocument, &all); err != nil {
		return nil, fmt.Errorf("manifest.json: %w", err)
	}
	var found []*saved
	for i := range all {
		if name := r.options.Name; name == "" || slices.Contains(all[i].RepoTags, name) {
			found = append(found, &all[i])
		}
	}
	if len(found) != 1 {
		return nil, fmt.Errorf("%d images with the name %q, want one: give its name and tag", len(found), r.options.Name)
	}
	config, err := r.read(found[0].Config)
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	sum := sha256.Sum256(config)
	if base := found[0].Config[strings.LastIndex(found[0].Config, "/")+1:]; strings.TrimSuffix(base, ".json") != hex.EncodeToString(sum[:]) {
		return nil, fmt.Errorf("the configuration is sha256:%x, and its name is %q", sum, found[0].Config)
	}
	var layers []layer
	for _, name := range found[0].Layers {
		layers = append(layers, layer{name: name})
	}
	return r.finish(new(Image), config, layers)
}

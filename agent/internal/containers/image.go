// SPDX-License-Identifier: Apache-2.0

package containers

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/oci"
	"github.com/cvm-agentd/agentd/internal/strictjson"
	"github.com/cvm-agentd/agentd/internal/text"
	"github.com/cvm-agentd/agentd/pcr"
)

// maxStore is how many bytes of a file of an engine are read: podman has all containers in one.
const maxStore = 16 << 20

// Annotations by which engines say of which image a container is.
const (
	criName    = "io.kubernetes.cri.image-name"  // containerd
	crioName   = "io.kubernetes.cri-o.ImageName" // CRI-O
	crioRef    = "io.kubernetes.cri-o.ImageRef"  // CRI-O: id, or name and digest of the manifest
	dockerData = "/var/lib/docker"               // unless the path of the root file system says otherwise
	dockerFile = "containers/%s/config.v2.json"  // below it
)

// imageOf returns of which image a container is, as its engine says. It is not an error
// if an engine says nothing: then the container is not the image of any app.
func imageOf(machine *os.File, r api.ContainerRequest, s *oci.Spec) (pcr.ContainerImage, error) {
	switch r.Engine {
	case "podman":
		return podmanImage(machine, r)
	case "docker":
		return dockerImage(machine, r, s)
	case "cri-o":
		return annotated(s.Annotations[crioName], s.Annotations[crioRef]), nil
	}
	return annotated(s.Annotations[criName], ""), nil
}

// podmanImage reads the list of containers of podman's store, which is two folders above the bundle
// (containers/storage, containers.go).
func podmanImage(machine *os.File, r api.ContainerRequest) (pcr.ContainerImage, error) {
	folder := path.Dir(path.Dir(path.Clean(r.Bundle)))
	for _, name := range []string{"containers.json", "volatile-containers.json"} {
		b, err := oci.ReadOwned(machine, path.Join(folder, name), maxStore)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		} else if err != nil {
			return pcr.ContainerImage{}, err
		}
		var all []struct {
			ID       string `json:"id"`
			Image    string `json:"image"`
			Metadata string `json:"metadata"`
		}
		if err := strictjson.DecodeForeign(b, maxStore, &all); err != nil {
			return pcr.ContainerImage{}, fmt.Errorf("read %s: %w", name, err)
		}
		for _, c := range all {
			if c.ID != r.ID {
				continue
			}
			var more struct {
				Name string `json:"image-name"`
			}
			if c.Metadata != "" {
				if err := strictjson.DecodeForeign([]byte(c.Metadata), maxStore, &more); err != nil {
					return pcr.ContainerImage{}, fmt.Errorf("read the metadata of the container in %s: %w", name, err)
				}
			}
			return annotated(more.Name, c.Image), nil
		}
	}
	return pcr.ContainerImage{}, nil
}

// dockerImage reads what docker wrote of the container when it made it.
func dockerImage(machine *os.File, r api.ContainerRequest, s *oci.Spec) (pcr.ContainerImage, error) {
	data := dockerData
	if folder, ok := strings.CutSuffix(path.Clean(s.Root.Path), "/merged"); ok && path.IsAbs(folder) {
		data = path.Dir(path.Dir(folder)) // DATA/overlay2/ID/merged
	}
	var c struct {
		ID     string `json:"ID"`
		Image  string `json:"Image"`
		Config struct {
			Image string `json:"Image"`
		} `json:"Config"`
		Manifest struct {
			Digest string `json:"digest"`
		} `json:"ImageManifest"`
	}
	for _, data := range []string{data, dockerData} {
		b, err := oci.ReadOwned(machine, path.Join(data, fmt.Sprintf(dockerFile, r.ID)), maxStore)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		} else if err != nil {
			return pcr.ContainerImage{}, err
		}
		if err := strictjson.DecodeForeign(b, maxStore, &c); err != nil {
			return pcr.ContainerImage{}, fmt.Errorf("read config.v2.json: %w", err)
		}
		if c.ID != r.ID {
			return pcr.ContainerImage{}, fmt.Errorf("config.v2.json is of container %s", text.Excerpt(c.ID))
		}
		out := annotated(c.Config.Image, strings.TrimPrefix(c.Image, "sha256:"))
		if out.Manifest == nil {
			out.Manifest = digestOf(c.Manifest.Digest)
		}
		return out, nil
	}
	return pcr.ContainerImage{}, nil
}

// annotated returns an image by its name and by a reference: the digest of its configuration, or
// again a name.
func annotated(name, reference string) (out pcr.ContainerImage) {
	if text.Check("name", name, 1, evidence.MaxName) == nil {
		out.Name = name
	}
	out.Config = digestOf("sha256:" + reference)
	for _, s := range []string{name, reference} {
		if _, digest, ok := strings.Cut(s, "@"); ok && out.Manifest == nil {
			out.Manifest = digestOf(digest)
		}
	}
	return out
}

// digestOf reads "sha256:" and 64 hexadecimal digits, nil if that is not what s is.
func digestOf(s string) *evidence.Digest {
	digits, ok := strings.CutPrefix(s, "sha256:")
	b, err := hex.DecodeString(digits)
	if !ok || err != nil || len(b) != len(evidence.Digest{}) || strings.ToLower(digits) != digits {
		return nil
	}
	d := evidence.Digest(b)
	return &d
}

// fits reports whether an image as a declaration names it, by digest or by name, is that of a
// container.
func fits(declared string, i pcr.ContainerImage) bool {
	if d := digestOf(declared); d != nil {
		return i.Config != nil && *i.Config == *d || i.Manifest != nil && *i.Manifest == *d
	}
	return i.Name != "" && repository(declared) == repository(i.Name)
}

// repository returns the name of an image without tag and digest, with the registry and the folder
// that engines add to a short one.
func repository(name string) string {
	name, _, _ = strings.Cut(name, "@")
	if colon := strings.LastIndexByte(name, ':'); colon > strings.LastIndexByte(name, '/') {
		name = name[:colon]
	}
	registry, rest, ok := strings.Cut(name, "/")
	if !ok || !strings.ContainsAny(registry, ".:") && registry != "localhost" {
		registry, rest = "docker.io", name
	}
	if registry == "index.docker.io" {
		registry = "docker.io"
	}
	if registry == "docker.io" && !strings.Contains(rest, "/") {
		rest = "library/" + rest
	}
	return registry + "/" + rest
}

// SPDX-License-Identifier: Apache-2.0

package host

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// layerFile is a file of a layer: a folder if its name ends so, or a link.
type layerFile struct{ name, link, content string }

// many is a number of layers whose paths do not fit into one mount: docker then names them from the
// folder of its store, and podman by the numbers of descriptors.
const many = 76

// makeLayout writes a layout of OCI with the images of the checks, by NAME:TAG. The program of all of
// them is in their first layer. In the second one each has a text of its own.
func makeLayout(dir, program string) error {
	l := &layout{dir: dir}
	b, err := os.ReadFile(program)
	if err != nil {
		return err
	}
	base := []layerFile{
		{name: "bin", link: "usr/bin"}, {name: "etc/"}, {name: "etc/group", content: "root:x:0:\nweb:x:1201:\n"},
		{name: "etc/passwd", content: "root:x:0:0::/:/nologin\nweb:x:1201:1201::/:/nologin\n"}, {name: "opt/"}, {name: "opt/removed", content: "gone"},
		{name: "usr/"}, {name: "usr/bin/"}, {name: "usr/bin/web", content: string(b)},
	}
	for _, name := range imageNames {
		layers := [][]layerFile{base, {{name: "opt/"}, {name: "opt/.wh.removed"}, {name: "opt/greeting", content: "the greeting of " + name + "\n"}}}
		if name == "deep" {
			for i := len(layers); i < many; i++ {
				layers = append(layers, []layerFile{{name: "opt/"}, {name: fmt.Sprintf("opt/%d", i), content: strings.Repeat("x", i)}})
			}
		}
		if err := l.image(name+":1", layers, "contained", "/srv"); err != nil {
			return err
		}
	}
	if err := l.image("pause:1", [][]layerFile{base}, "pause"); err != nil { // of each pod
		return err
	}
	if err := l.write("oci-layout", []byte(`{"imageLayoutVersion":"1.0.0"}`)); err != nil {
		return err
	}
	return l.json("index.json", map[string]any{"schemaVersion": 2, "manifests": l.manifests})
}

// imageNames are the images: each attack has one of its own, since a log keeps every start.
var imageNames = []string{"web", "deep", "other", "retagged", "edited", "swapped", "arguments", "quadlet", "plain"}

// layout is a layout of OCI that is being written.
type layout struct {
	dir       string
	manifests []any
}

func (l *layout) write(name string, b []byte) error {
	path := filepath.Join(l.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, b, 0o644)
}

func (l *layout) json(name string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return l.write(name, b)
}

// blob writes a blob, and returns its descriptor.
func (l *layout) blob(kind string, b []byte) (map[string]any, error) {
	sum := fmt.Sprintf("%x", sha256.Sum256(b))
	return map[string]any{"mediaType": kind, "digest": "sha256:" + sum, "size": len(b)}, l.write("blobs/sha256/"+sum, b)
}

// Media types of OCI.
const (
	typeManifest = "application/vnd.oci.image.manifest.v1+json"
	typeConfig   = "application/vnd.oci.image.config.v1+json"
	typeLayer    = "application/vnd.oci.image.layer.v1.tar+gzip"
)

func (l *layout) image(name string, layers [][]layerFile, words ...string) error {
	var descriptors []any
	var unpacked []string
	for _, files := range layers {
		plain, packed, err := packLayer(files)
		if err != nil {
			return err
		}
		d, err := l.blob(typeLayer, packed)
		if err != nil {
			return err
		}
		descriptors, unpacked = append(descriptors, d), append(unpacked, fmt.Sprintf("sha256:%x", sha256.Sum256(plain)))
	}
	config, err := json.Marshal(map[string]any{
		"architecture": "amd64", "os": "linux", "created": "2024-01-01T00:00:00Z",
		"config": map[string]any{"Entrypoint": append([]string{"/usr/bin/web"}, words...), "WorkingDir": "/"},
		"rootfs": map[string]any{"type": "layers", "diff_ids": unpacked},
	})
	if err != nil {
		return err
	}
	c, err := l.blob(typeConfig, config)
	if err != nil {
		return err
	}
	m, err := json.Marshal(map[string]any{"schemaVersion": 2, "mediaType": typeManifest, "config": c, "layers": descriptors})
	if err != nil {
		return err
	}
	d, err := l.blob(typeManifest, m)
	if err != nil {
		return err
	}
	d["annotations"] = map[string]string{"org.opencontainers.image.ref.name": name}
	l.manifests = append(l.manifests, d)
	return nil
}

// packLayer returns a layer as a tar archive, and the same compressed.
func packLayer(files []layerFile) (plain, packed []byte, err error) {
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, f := range files {
		h := tar.Header{Name: f.name, Typeflag: tar.TypeReg, Mode: 0o755, Size: int64(len(f.content)), Linkname: f.link}
		switch {
		case f.link != "":
			h.Typeflag = tar.TypeSymlink
		case strings.HasSuffix(f.name, "/"):
			h.Typeflag = tar.TypeDir
		}
		if err := w.WriteHeader(&h); err != nil {
			return nil, nil, err
		}
		if _, err := w.Write([]byte(f.content)); err != nil {
			return nil, nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, nil, err
	}
	var gz bytes.Buffer
	z, err := gzip.NewWriterLevel(&gz, gzip.BestSpeed)
	if err != nil {
		return nil, nil, err
	}
	if _, err := z.Write(out.Bytes()); err != nil {
		return nil, nil, err
	}
	if err := z.Close(); err != nil {
		return nil, nil, err
	}
	return out.Bytes(), gz.Bytes(), nil
}

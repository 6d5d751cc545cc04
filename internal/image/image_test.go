// SPDX-License-Identifier: Apache-2.0

package image

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/rootfs"
	"github.com/cvm-agentd/agentd/pcr"
)

// item is an entry of a layer: a file of mode 0644 if nothing else is said.
type item struct {
	name, content string
	kind          byte
	mode          int64
	major, minor  int64
}

func link(name, target string) item { return item{name: name, content: target, kind: tar.TypeSymlink} }
func hard(name, target string) item { return item{name: name, content: target, kind: tar.TypeLink} }
func dir(name string) item          { return item{name: name, kind: tar.TypeDir, mode: 0o755} }

// layerOf returns a layer as an archive.
func layerOf(t testing.TB, items ...item) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, x := range items {
		h := &tar.Header{Name: x.name, Typeflag: x.kind, Mode: x.mode, Devmajor: x.major, Devminor: x.minor, Format: tar.FormatPAX}
		switch x.kind {
		case 0:
			h.Typeflag, h.Size = tar.TypeReg, int64(len(x.content))
		case tar.TypeSymlink, tar.TypeLink:
			h.Linkname = x.content
		}
		if h.Mode == 0 {
			h.Mode = 0o644
		}
		if x.kind == tar.TypeChar || x.kind == tar.TypeBlock {
			h.Format = tar.FormatUSTAR
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if h.Size > 0 {
			if _, err := io.WriteString(w, x.content); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func digestOf(b []byte) string { return fmt.Sprintf("sha256:%x", sha256.Sum256(b)) }

// packers are the ways in which a layer can be compressed.
var packers = map[string]func(io.Writer) (io.WriteCloser, error){
	"tar":  nil,
	"gzip": func(w io.Writer) (io.WriteCloser, error) { return gzip.NewWriter(w), nil },
	"zstd": func(w io.Writer) (io.WriteCloser, error) { return zstd.NewWriter(w) },
}

func pack(t testing.TB, how string, b []byte) []byte {
	t.Helper()
	if packers[how] == nil {
		return b
	}
	var out bytes.Buffer
	w, err := packers[how](&out)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// layout is an image that a test may change before it is written.
type layout struct {
	config map[string]any
	files  map[string][]byte
	index  []map[string]any
	layers []map[string]any
}

func (l *layout) blob(b []byte) map[string]any {
	l.files["blobs/sha256/"+strings.TrimPrefix(digestOf(b), "sha256:")] = b
	return map[string]any{"mediaType": "x", "digest": digestOf(b), "size": len(b)}
}

func encode(t testing.TB, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// newLayout returns a layout with layers that are packed in one way.
func newLayout(t testing.TB, how string, layers ...[]byte) *layout {
	l := &layout{files: map[string][]byte{"oci-layout": []byte(`{"imageLayoutVersion":"1.0.0"}`)}}
	var ids []string
	for _, b := range layers {
		ids = append(ids, digestOf(b))
		l.layers = append(l.layers, l.blob(pack(t, how, b)))
	}
	l.config = map[string]any{
		"os": "linux", "architecture": "amd64", "rootfs": map[string]any{"type": "layers", "diff_ids": ids}, "history": nil,
		"config": map[string]any{"User": "1000", "Entrypoint": []string{"/bin/sh"}, "Cmd": []string{"-c", "true"}, "Volumes": map[string]any{"/data": map[string]any{}}, "Labels": nil},
	}
	return l
}

// finish adds the configuration, the manifest and the index.
func (l *layout) finish(t testing.TB) {
	config := l.blob(encode(t, l.config))
	m := l.blob(encode(t, map[string]any{"schemaVersion": 2, "config": config, "layers": l.layers}))
	m["annotations"] = map[string]string{refName: "1.4"}
	l.index = append(l.index, m)
	l.files["index.json"] = encode(t, map[string]any{"schemaVersion": 2, "manifests": l.index})
}

func (l *layout) folder(t testing.TB) string {
	t.Helper()
	at := t.TempDir()
	for name, b := range l.files {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(at, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(at, name), b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return at
}

// archive writes the files as one archive.
func (l *layout) archive(t testing.TB) string {
	t.Helper()
	var items []item
	for name, b := range l.files {
		items = append(items, item{name: name, content: string(b)})
	}
	slices.SortFunc(items, func(a, b item) int { return strings.Compare(a.name, b.name) })
	at := filepath.Join(t.TempDir(), "image.tar")
	if err := os.WriteFile(at, layerOf(t, items...), 0o644); err != nil {
		t.Fatal(err)
	}
	return at
}

// rootOf returns the digest of files: a content that begins with "-> " is a link, and a name that
// ends in "+x" has the mode 0755.
func rootOf(files map[string]string) pcr.ContainerRoot {
	var entries []pcr.ManifestEntry
	var root pcr.ContainerRoot
	for name, content := range files {
		e := pcr.ManifestEntry{Path: "/" + name, Mode: modeFile | 0o644}
		if target, ok := strings.CutPrefix(content, "-> "); ok {
			content, e.Mode = target, modeLink
		}
		if base, ok := strings.CutSuffix(e.Path, "+x"); ok {
			e.Path, e.Mode = base, modeFile|0o755
		}
		e.Size, e.Digest = uint64(len(content)), sha256.Sum256([]byte(content))
		root.Bytes += e.Size
		entries = append(entries, e)
	}
	slices.SortFunc(entries, func(a, b pcr.ManifestEntry) int { return strings.Compare(a.Path, b.Path) })
	root.Digest, root.Files = pcr.ManifestDigest(entries), uint64(len(entries))
	return root
}

// example are two layers, and what they make.
func example(t testing.TB) (layers [][]byte, files map[string]string) {
	return [][]byte{
			layerOf(t, dir("./"), dir("bin/"), item{name: "bin/sh", content: "shell", mode: 0o755}, hard("bin/ash", "bin/sh"), link("lib", "usr/lib"),
				item{name: "usr/lib/a", content: "a"}, item{name: "etc/hosts", content: "127.0.0.1"}, item{name: "etc/conf", content: "1"}, item{name: "gone", content: "x"}, item{name: "old/x", content: "x"}, item{name: "old/y", content: "y"}),
			layerOf(t, item{name: "etc/conf", content: "2"}, item{name: ".wh.gone"}, dir("old"), item{name: "old/z", content: "z"}, item{name: "old/.wh..wh..opq"}, item{name: "dev/null", content: "x"}),
		},
		map[string]string{"bin/sh+x": "shell", "bin/ash+x": "shell", "lib": "-> usr/lib", "usr/lib/a": "a", "etc/conf": "2", "old/z": "z"}
}

// TestRead: layouts of OCI in folders and archives, packed in each way, and archives of docker save
// give the same image.
func TestRead(t *testing.T) {
	layers, files := example(t)
	want := rootOf(files)
	check := func(name, at string, manifest bool) {
		t.Helper()
		x, err := Read(t.Context(), at, Options{})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			return
		}
		if x.Root != want || x.Layers != 2 || x.User != "1000" || strings.Join(x.Args, " ") != "/bin/sh -c true" || !slices.Equal(x.Volumes, []string{"/data"}) || (x.Manifest != nil) != manifest {
			t.Errorf("%s: %+v, want root %+v", name, x, want)
		}
	}
	for how := range packers {
		l := newLayout(t, how, layers...)
		l.finish(t)
		check(how+", folder", l.folder(t), true)
		check(how+", archive", l.archive(t), true)
	}
	l := newLayout(t, "tar")
	docker := newLayout(t, "tar", layers...)
	config := encode(t, docker.config)
	name := strings.TrimPrefix(digestOf(config), "sha256:") + ".json"
	l.files = map[string][]byte{name: config, "a/layer.tar": layers[0], "b/layer.tar": layers[1], "manifest.json": encode(t, []map[string]any{
		{"Config": name, "RepoTags": []string{"ledger:1.4"}, "Layers": []string{"a/layer.tar", "b/layer.tar"}},
	})}
	check("docker save", l.archive(t), false)
	x, err := Read(t.Context(), l.archive(t), Options{Name: "ledger:1.4"})
	if err != nil || x.Config.String()+".json" != name {
		t.Errorf("%+v, %v", x, err)
	}
	if _, err := Read(t.Context(), l.archive(t), Options{Name: "ledger:1.5"}); err == nil {
		t.Error("an image of another name is read")
	}
}

// TestChoose: of several images, the one for this machine with the name is read.
func TestChoose(t *testing.T) {
	l := newLayout(t, "tar", layerOf(t, item{name: "x", content: "1"}))
	l.finish(t)
	second := newLayout(t, "tar", layerOf(t, item{name: "x", content: "2"}))
	second.files = l.files
	second.layers[0] = second.blob(layerOf(t, item{name: "x", content: "2"}))
	second.finish(t)
	m := second.index[0]
	m["annotations"] = map[string]string{refName: "1.5"}
	l.files["index.json"] = encode(t, map[string]any{"manifests": []any{l.index[0], m}})
	at := l.folder(t)
	for name, want := range map[string]string{"1.4": "1", "1.5": "2"} {
		if x, err := Read(t.Context(), at, Options{Name: name}); err != nil || x.Root != rootOf(map[string]string{"x": want}) {
			t.Errorf("%s: %+v, %v", name, x, err)
		}
	}
	for _, name := range []string{"", "1.6"} {
		if _, err := Read(t.Context(), at, Options{Name: name}); err == nil || !strings.Contains(err.Error(), "1.5") {
			t.Errorf("%q: %v", name, err)
		}
	}
	m["platform"] = map[string]string{"os": "linux", "architecture": "riscv64"}
	l.files["index.json"] = encode(t, map[string]any{"manifests": []any{l.index[0], m}})
	if x, err := Read(t.Context(), l.folder(t), Options{}); err != nil || x.Root != rootOf(map[string]string{"x": "1"}) {
		t.Errorf("one for this machine: %+v, %v", x, err)
	}
	inner := l.blob(l.files["index.json"])
	l.files["index.json"] = encode(t, map[string]any{"manifests": []any{inner}})
	if x, err := Read(t.Context(), l.folder(t), Options{}); err != nil || x.Root != rootOf(map[string]string{"x": "1"}) {
		t.Errorf("an index in an index: %+v, %v", x, err)
	}
}

// TestDigestsAreChecked: each byte of a layout is covered by a digest from the index on.
func TestDigestsAreChecked(t *testing.T) {
	layers, _ := example(t)
	for how := range packers {
		good := newLayout(t, how, layers...)
		good.finish(t)
		for name, b := range good.files {
			if !strings.HasPrefix(name, "blobs/") {
				continue
			}
			for _, at := range []int{0, len(b) / 2, len(b) - 1} {
				changed := bytes.Clone(b)
				changed[at] ^= 1
				good.files[name] = changed
				if x, err := Read(t.Context(), good.folder(t), Options{}); err == nil {
					t.Errorf("%s: byte %d of %s is changed: %+v", how, at, name, x)
				}
			}
			good.files[name] = append(bytes.Clone(b), 0)
			if x, err := Read(t.Context(), good.folder(t), Options{}); err == nil {
				t.Errorf("%s: %s is longer: %+v", how, name, x)
			}
			good.files[name] = b
		}
	}
}

// TestRefused: images that contradict themselves, or that no engine would run here, are errors.
func TestRefused(t *testing.T) {
	layer := layerOf(t, item{name: "x"})
	for want, change := range map[string]func(l *layout){
		"want as many":      func(l *layout) { l.layers = append(l.layers, l.layers[0]) },
		"layer 1 of 1":      func(l *layout) { l.layers[0]["size"] = 1 },
		"unpacks to":        func(l *layout) { l.config["rootfs"].(map[string]any)["diff_ids"] = []string{digestOf(nil)} },
		"64 lower-case":     func(l *layout) { l.config["rootfs"].(map[string]any)["diff_ids"] = []string{"sha512:00"} },
		"want layers":       func(l *layout) { l.config["rootfs"].(map[string]any)["type"] = "other" },
		"want linux":        func(l *layout) { l.config["os"] = "windows" },
		"no such file":      func(l *layout) { l.layers[0]["digest"] = digestOf(nil) },
		`digest "sha256:..`: func(l *layout) { l.layers[0]["digest"] = "sha256:../../../../etc/passwd" },
	} {
		l := newLayout(t, "tar", layer)
		change(l)
		l.finish(t)
		if x, err := Read(t.Context(), l.folder(t), Options{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v, %v, want %q", x, err, want)
		}
	}
	for name, files := range map[string]map[string][]byte{
		"nothing": {}, "an index without images": {"index.json": []byte(`{"manifests":[]}`)}, "a manifest as an index": {"index.json": []byte(`{"layers":[]}`)},
		"not JSON": {"index.json": []byte(`{`)}, "members twice": {"index.json": []byte(`{"manifests":[],"manifests":[]}`)}, "a folder as the index": {"index.json/x": nil},
		"a way out": {"manifest.json": []byte(`[{"Config":"../config.json","Layers":[]}]`)},
	} {
		if x, err := Read(t.Context(), (&layout{files: files}).folder(t), Options{}); err == nil {
			t.Errorf("%s: %+v", name, x)
		}
	}
	for name, content := range map[string][]byte{"empty": nil, "not an archive": []byte(strings.Repeat("x", 2000)), "twice": layerOf(t, item{name: "index.json"}, item{name: "./index.json"})} {
		at := filepath.Join(t.TempDir(), "image")
		if err := os.WriteFile(at, content, 0o644); err != nil {
			t.Fatal(err)
		}
		if x, err := Read(t.Context(), at, Options{}); err == nil {
			t.Errorf("%s: %+v", name, x)
		}
	}
	if _, err := Read(t.Context(), filepath.Join(t.TempDir(), "none"), Options{}); !os.IsNotExist(err) {
		t.Errorf("got %v, want %v", err, fs.ErrNotExist)
	}
}

// TestBlobsAreChecked: an index, a manifest or a configuration of the same length that still can be
// read is refused by its digest.
func TestBlobsAreChecked(t *testing.T) {
	for old, changed := range map[string]string{`"schemaVersion":2`: `"schemaVersion":3`, `"User":"1000"`: `"User":"0000"`} {
		l := newLayout(t, "tar", layerOf(t, item{name: "x"}))
		l.finish(t)
		found := false
		for name, b := range l.files {
			if strings.HasPrefix(name, "blobs/") && bytes.Contains(b, []byte(old)) {
				l.files[name], found = bytes.Replace(b, []byte(old), []byte(changed), 1), true
			}
		}
		if x, err := Read(t.Context(), l.folder(t), Options{}); !found || err == nil || !strings.Contains(err.Error(), "the descriptor says") {
			t.Errorf("%s: %+v, %v", changed, x, err)
		}
	}
}

// TestCaps: an image with more layers, documents, indexes or files than the caps allow is refused.
func TestCaps(t *testing.T) {
	layer := layerOf(t, item{name: "x"})
	for want, change := range map[string]func(l *layout){
		"at most 512": func(l *layout) {
			for range maxLayers {
				l.layers = append(l.layers, l.layers[0])
				rootfs := l.config["rootfs"].(map[string]any)
				rootfs["diff_ids"] = append(rootfs["diff_ids"].([]string), digestOf(layer))
			}
		},
		"more than": func(l *layout) { l.config["history"] = strings.Repeat("x", maxDocument) },
	} {
		l := newLayout(t, "tar", layer)
		change(l)
		l.finish(t)
		if x, err := Read(t.Context(), l.folder(t), Options{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v, %v, want %q", x, err, want)
		}
	}
	l := newLayout(t, "tar", layer)
	l.finish(t)
	for range 5 {
		l.files["index.json"] = encode(t, map[string]any{"manifests": []any{l.blob(l.files["index.json"])}})
	}
	if x, err := Read(t.Context(), l.folder(t), Options{}); err == nil || !strings.Contains(err.Error(), "index in an index") {
		t.Errorf("%+v, %v", x, err)
	}
	l.files = map[string][]byte{}
	for i := range maxParts + 1 {
		l.files[fmt.Sprint(i)] = nil
	}
	if x, err := Read(t.Context(), l.archive(t), Options{}); err == nil || !strings.Contains(err.Error(), "more than 10000 files") {
		t.Errorf("%+v, %v", x, err)
	}
}

// TestMounted: an empty file at the destination of a mount is left out, as in a mounted root.
func TestMounted(t *testing.T) {
	l := newLayout(t, "tar", layerOf(t, item{name: "x", content: "1"}, item{name: "srv/app.conf"}, item{name: "etc/hostname", content: "x"}))
	l.finish(t)
	mounted := func(p string) bool { return p == "/srv/app.conf" }
	for name, c := range map[string]struct {
		mounted func(string) bool
		files   map[string]string
	}{"mounted": {mounted, map[string]string{"x": "1"}}, "not mounted": {nil, map[string]string{"x": "1", "srv/app.conf": ""}}} {
		if x, err := Read(t.Context(), l.folder(t), Options{Mounted: c.mounted}); err != nil || x.Root != rootOf(c.files) {
			t.Errorf("%s: %+v, %v", name, x, err)
		}
	}
}

// budgetOf returns a budget for tests.
func budgetOf(t testing.TB) *budget {
	return &budget{ctx: t.Context(), bytes: maxUnpacked, entries: maxEntries}
}

// apply applies layers to a new tree.
func apply(t testing.TB, layers ...[]byte) (pcr.ContainerRoot, error) {
	x := newTree()
	for _, b := range layers {
		if err := x.apply(bytes.NewReader(b), evidence.Digest(sha256.Sum256(b)), budgetOf(t)); err != nil {
			return pcr.ContainerRoot{}, err
		}
	}
	s := rootfs.NewSum(rootfs.OfEngine)
	err := x.root.sum("", s)
	return s.Root(), err
}

// TestFIFO: what no other process writes to is refused, and not waited for.
func TestFIFO(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"index.json", "archive"} {
		if err := unix.Mkfifo(filepath.Join(dir, name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for path, want := range map[string]string{dir: "not a regular file", filepath.Join(dir, "archive"): "nor a regular file"} {
		if x, err := Read(t.Context(), path, Options{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, %v", path, x, err)
		}
	}
}

// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"github.com/coreos/go-systemd/v22/daemon"
)

// serveImages is a registry of the images in a layout of OCI, which are there by NAME:TAG. It serves
// what engines ask for when they pull: manifests by tag and by digest, and blobs.
func serveImages(layout, address string) error {
	var index struct {
		Manifests []struct {
			MediaType   string            `json:"mediaType"`
			Digest      string            `json:"digest"`
			Annotations map[string]string `json:"annotations"`
		} `json:"manifests"`
	}
	b, err := os.ReadFile(filepath.Join(layout, "index.json"))
	if err == nil {
		err = json.Unmarshal(b, &index)
	}
	if err != nil {
		return err
	}
	serve := func(w http.ResponseWriter, r *http.Request, kind, digest string) {
		algorithm, hexadecimal, _ := strings.Cut(digest, ":")
		w.Header().Set("Content-Type", kind)
		w.Header().Set("Docker-Content-Digest", digest)
		http.ServeFile(w, r, filepath.Join(layout, "blobs", filepath.Base(algorithm), filepath.Base(hexadecimal)))
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v2/{$}", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) })
	mux.HandleFunc("GET /v2/{name}/manifests/{reference}", func(w http.ResponseWriter, r *http.Request) {
		for _, m := range index.Manifests {
			name, tag, _ := strings.Cut(m.Annotations["org.opencontainers.image.ref.name"], ":")
			if want := r.PathValue("reference"); name == r.PathValue("name") && (tag == want || m.Digest == want) {
				serve(w, r, m.MediaType, m.Digest)
				return
			}
		}
		http.NotFound(w, r)
	})
	mux.HandleFunc("GET /v2/{name}/blobs/{digest}", func(w http.ResponseWriter, r *http.Request) {
		serve(w, r, "application/octet-stream", r.PathValue("digest"))
	})
	l, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	_, _ = daemon.SdNotify(false, daemon.SdNotifyReady)
	return http.Serve(l, mux)
}

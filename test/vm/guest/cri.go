// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"
)

// containerD is the socket at which containerd serves the Container Runtime Interface, by which
// Kubernetes has it run containers. podFolder keeps which pod a container is in.
const (
	containerD = "/run/containerd/containerd.sock"
	podFolder  = "/run/vmguest-pods"
)

// field is a field of a message: a text, a number, or a message of fields.
type field struct {
	number protowire.Number
	value  any
}

func encode(fields []field) (b []byte) {
	for _, f := range fields {
		switch v := f.value.(type) {
		case string:
			b = protowire.AppendString(protowire.AppendTag(b, f.number, protowire.BytesType), v)
		case uint64:
			b = protowire.AppendVarint(protowire.AppendTag(b, f.number, protowire.VarintType), v)
		case []field:
			b = protowire.AppendBytes(protowire.AppendTag(b, f.number, protowire.BytesType), encode(v))
		}
	}
	return b
}

// call calls a method of the interface (api.proto of runtime.v1), and returns the text that is the
// first field of the answer. gRPC frames a message with a byte and its length.
func call(method string, request ...field) (string, error) {
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	t := &http.Transport{Protocols: protocols, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", containerD)
	}}
	defer t.CloseIdleConnections()
	message := encode(request)
	r, err := http.NewRequest("POST", "http://containerd/runtime.v1."+method, bytes.NewReader(append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(message))), message...)))
	if err != nil {
		return "", err
	}
	r.Header.Set("Content-Type", "application/grpc")
	r.Header.Set("TE", "trailers")
	answer, err := t.RoundTrip(r)
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	b, err := io.ReadAll(answer.Body)
	if err != nil {
		return "", err
	}
	for _, h := range []http.Header{answer.Trailer, answer.Header} { // one without a message has no trailer
		if code := h.Get("Grpc-Status"); code != "" && code != "0" {
			return "", fmt.Errorf("%s: %s (code %s)", method, h.Get("Grpc-Message"), code)
		}
	}
	if len(b) > 5 {
		if n, _, at := protowire.ConsumeTag(b[5:]); n == 1 && at > 0 {
			s, _ := protowire.ConsumeString(b[5+at:])
			return s, nil
		}
	}
	return "", nil
}

// pod reports whether containerd answers, pulls images, runs a container in a pod of its own and prints
// its id, removes both, or prints the id again:
//
//	ready
//	pull IMAGE...
//	run NAME IMAGE UID GROUP [ARGUMENT]...    the arguments take the place of those of the image
//	rm NAME
//	id NAME
func pod(words []string) error {
	if words[0] == "ready" { // containerd tells systemd so before
		_, err := call("RuntimeService/Status")
		return err
	}
	if len(words) < 2 {
		return fmt.Errorf("too few words %q", words)
	}
	if words[0] == "pull" {
		for _, image := range words[1:] {
			if _, err := call("ImageService/PullImage", field{1, []field{{1, image}}}); err != nil {
				return err
			}
		}
		return nil
	}
	file := filepath.Join(podFolder, words[1])
	if words[0] == "run" && len(words) >= 5 {
		return runPod(file, words[1], words[2], words[3], words[4], words[5:])
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	sandbox, container, _ := strings.Cut(string(b), " ")
	switch words[0] {
	case "id":
		fmt.Println(container)
		return nil
	case "rm":
		_, stopped := call("RuntimeService/StopPodSandbox", field{1, sandbox})
		_, removed := call("RuntimeService/RemovePodSandbox", field{1, sandbox})
		return errors.Join(stopped, removed, os.Remove(file))
	}
	return fmt.Errorf("unknown words %q", words)
}

func runPod(file, name, image, user, group string, args []string) error {
	uid, err := strconv.ParseUint(user, 10, 32)
	if err != nil {
		return err
	}
	gid, err := strconv.ParseUint(group, 10, 32)
	if err != nil {
		return err
	}
	const node = uint64(2)                           // NamespaceMode: the machine has no networks
	namespaces := []field{{1, node}, {2, uint64(1)}} // and processes apart from others of the pod
	config := []field{
		{1, []field{{1, name}, {2, name}, {3, "default"}}},
		{8, []field{{2, []field{{1, namespaces}}}}},
	}
	sandbox, err := call("RuntimeService/RunPodSandbox", field{1, config})
	if err != nil {
		return err
	}
	container := []field{{1, []field{{1, name}}}, {2, []field{{1, image}}}}
	for _, a := range args {
		container = append(container, field{3, a})
	}
	for from, to := range map[string]string{"/srv/" + name: "/srv", "/run/agentd/agentd.sock": "/run/agentd/agentd.sock"} {
		container = append(container, field{7, []field{{1, to}, {2, from}}})
	}
	container = append(container, field{15, []field{{2, []field{{3, namespaces}, {5, []field{{1, uid}}}, {12, []field{{1, uid}}}, {8, gid}}}}})
	id, err := call("RuntimeService/CreateContainer", field{1, sandbox}, field{2, container}, field{3, config})
	if err == nil {
		_, err = call("RuntimeService/StartContainer", field{1, id})
	}
	if err := os.MkdirAll(podFolder, 0o700); err != nil {
		return err
	}
	fmt.Println(id)
	return errors.Join(err, os.WriteFile(file, []byte(sandbox+" "+id), 0o600))
}

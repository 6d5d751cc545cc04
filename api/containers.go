// SPDX-License-Identifier: Apache-2.0

package api

import "github.com/cvm-agentd/agentd/evidence"

// ContainerRequest names a container that is being created: none of its programs has run. The
// agent reads itself what the container is. Of this request only the name of the engine is
// recorded as it is.
type ContainerRequest struct {
	Engine string `json:"engine"` // "podman", "docker", "containerd" or "cri-o"
	ID     string `json:"id"`     // id of the container: 1 to 128 letters, digits, "_", "." and "-", neither of the last two first
	PID    uint32 `json:"pid"`    // process that will become its first program
	Bundle string `json:"bundle"` // absolute path of the folder with its config.json
}

// Container is the answer of POST /v1/containers. The container may start.
type Container struct {
	Engine   string           `json:"engine"`            // name of the engine
	ID       string           `json:"id"`                // id of the container
	Recorded bool             `json:"recorded"`          // the log has it; otherwise Reason says why that is not needed
	Reason   string           `json:"reason,omitzero"`   // why it is not recorded
	App      string           `json:"app,omitzero"`      // declared app that the container is; empty if it is none
	Image    string           `json:"image,omitzero"`    // digest of the configuration of its image, as the engine says, "sha256:…"; empty if it does not
	Root     *evidence.Digest `json:"root,omitzero"`     // digest of its root file system, if it is recorded
	Files    uint64           `json:"files,omitzero"`    // files and links in it
	Bytes    uint64           `json:"bytes,omitzero"`    // bytes of these
	Record   *uint64          `json:"record,omitzero"`   // number of the record, if it is recorded
	Started  uint64           `json:"started,omitzero"`  // when its first process was made: CLOCK_BOOTTIME in milliseconds
	Running  bool             `json:"running,omitempty"` // that process has not ended
}

// Containers is the answer of GET /v1/containers/running.
type Containers struct {
	Containers []Container `json:"containers"` // recorded in this boot and not ended, by engine and id
}

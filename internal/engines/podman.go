// SPDX-License-Identifier: Apache-2.0

package engines

import (
	"bytes"
	"errors"
	"fmt"
	"time"

	"github.com/cvm-agentd/agentd/internal/oci"
)

// hook is the file of the hook, in the format of oci-hooks(5).
var hook = fmt.Appendf(nil, `{
  "version": "1.0.0",
  "hook": {
    "path": "%s",
    "args": ["agentd-container", "hook", "podman"],
    "timeout": %d
  },
  "when": {"always": true},
  "stages": ["createRuntime"]
}
`, Program, oci.HookTimeout/time.Second)

// hookState knows the file that this package writes, and no other: one that was changed may run
// for some containers only.
func hookState(content []byte) (State, error) {
	switch {
	case content == nil:
		return Disabled, nil
	case bytes.Equal(content, hook):
		return Enabled, nil
	}
	return Partly, nil
}

func enableHook(content []byte, _ string) ([]byte, error) { return hook, checkHook(content) }

func disableHook(content []byte) ([]byte, error) { return nil, checkHook(content) }

// checkHook refuses the file of a hook of other authors.
func checkHook(content []byte) error {
	if content != nil && !bytes.Contains(content, []byte(Program)) {
		return errors.New("the file does not lead to " + Program + ", so it is neither replaced nor removed: remove it yourself")
	}
	return nil
}

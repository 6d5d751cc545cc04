// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"io/fs"
	"strings"

	"github.com/cvm-agentd/agentd/api"
)

// lookAtDisks says of each enrolled volume whether it opens at the next boot. It does not look at the
// device: `agentctl disk check` does.
func (d *doctor) lookAtDisks(ctx context.Context) {
	all, err := soon(ctx, d.sockets.adminSocket().Disks)
	if err != nil {
		return // the findings of the store say why, or this is not root
	}
	folder, err := headerFolderOf(d.sockets)
	if err != nil {
		d.note("volumes", "", "%v", err)
		return
	}
	for i := range all.Disks {
		d.lookAtDisk(folder, &all.Disks[i])
	}
}

func (d *doctor) lookAtDisk(folder string, v *api.Disk) {
	name := "volume " + v.Name
	if v.Code != "" || v.Reason != "" {
		d.bad(name, v.Code.Info().Hint, "the record does not open: %s", v.Reason)
		return
	}
	if v.Unproven {
		d.bad(name, api.CodeDiskUnproven.Info().Hint, "the key is not given out: nothing told who wrote the record when it was recovered")
		return
	}
	t, err := tableOf(folder, v)
	switch {
	case errors.Is(err, fs.ErrPermission):
		d.note(name, "run the doctor as root", "%v", err)
	case err != nil:
		d.bad(name, "", "%v", err)
	case len(t.missing) > 0:
		d.warn(name, "let `agentctl disk enroll "+v.Device+" --name "+v.Name+" --key-file FILE --replace` write it again", "it does not open at the next boot as it should: %s", strings.Join(t.missing, "; "))
	case len(v.Recovery) == 0:
		d.note(name, "", "nothing but this agent opens it, as was acknowledged: another chip loses it")
	default:
		d.good(name, "opens at boot by key slot %d; recovery key slots %v", v.Slot, v.Recovery)
	}
	if v.Pending || len(v.Former) > 0 {
		d.warn(name+": rotation", "agentctl disk rotate "+v.Name, "a rotation was interrupted")
	}
}

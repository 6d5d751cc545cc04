// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"fmt"
	"os"
	"os/user"
	"strconv"

	"github.com/cvm-agentd/agentd/agent/internal/server"
	"github.com/cvm-agentd/agentd/agent/internal/systemd"
	"github.com/cvm-agentd/agentd/internal/config"
)

// Permissions of the sockets.
const (
	clientMode = 0o660
	adminMode  = 0o600
)

// listeners are the two sockets of the agent.
type listeners struct {
	client, admin *server.Listener
}

// listen takes the sockets that systemd passed, and makes those that it did not.
func listen(c config.Sockets) (l listeners, err error) {
	defer func() {
		if err != nil {
			l.close()
		}
	}()
	client, admin, err := systemd.Sockets()
	if err != nil {
		return l, err
	}
	group := -1
	if client == nil {
		if group, err = lookupGroup(c.ClientGroup); err != nil {
			return l, err
		}
	}
	if l.client, err = listenOne(client, c.Client, clientMode, group); err != nil {
		if admin != nil {
			admin.Close()
		}
		return l, err
	}
	l.admin, err = listenOne(admin, c.Admin, adminMode, -1)
	return l, err
}

func listenOne(passed *os.File, path string, mode os.FileMode, group int) (*server.Listener, error) {
	if passed != nil {
		return server.Inherit(passed, mode)
	}
	return server.Listen(path, mode, group)
}

// lookupGroup returns the number of the group that gets the client socket, -1 if name is
// empty.
func lookupGroup(name string) (int, error) {
	if name == "" {
		return -1, nil
	}
	g, err := user.LookupGroup(name)
	if err != nil {
		return 0, fmt.Errorf("group of the client socket: %w: create it, or set sockets.client_group", err)
	}
	return strconv.Atoi(g.Gid)
}

func (l listeners) close() {
	for _, x := range []*server.Listener{l.client, l.admin} {
		if x != nil {
			x.Close()
		}
	}
}

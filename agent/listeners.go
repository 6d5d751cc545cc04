// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"strconv"

	"github.com/coreos/go-systemd/v22/activation"

	"github.com/cvm-agentd/agentd/agent/internal/server"
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

// inherited are the sockets that systemd passed, by their names: the names of the
// client and of the admin socket are "client" and "admin" (FileDescriptorName= in
// systemd.socket(5)). A socket with another name is an error: nobody would serve it.
func inherited() (client, admin *os.File, err error) {
	for _, f := range activation.Files(true) {
		switch {
		case f.Name() == "client" && client == nil:
			client = f
		case f.Name() == "admin" && admin == nil:
			admin = f
		default:
			err = errors.Join(err, fmt.Errorf("systemd passed a socket named %q: want one \"client\" and one \"admin\" (FileDescriptorName=)", f.Name()), f.Close())
		}
	}
	return client, admin, err
}

// listen takes the sockets that systemd passed and makes the others.
func listen(c config.Sockets) (l listeners, err error) {
	defer func() {
		if err != nil {
			l.close()
		}
	}()
	client, admin, err := inherited()
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

// lookupGroup is the number of the group that gets the client socket, -1 for none.
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

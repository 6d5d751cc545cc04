// SPDX-License-Identifier: Apache-2.0

package store

import "github.com/cvm-agentd/agentd/sealing"

// Container returns the app that is the image of containers of an engine. It has no unit and no user
// of its own. In their place it has its engine, written as no name of a unit can be, and a word for
// the user of the container's first process.
func Container(name, engine string) sealing.App {
	return sealing.App{Name: name, Unit: "container:" + engine, User: "container"}
}

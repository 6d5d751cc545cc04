// SPDX-License-Identifier: Apache-2.0

package sealing

import "strings"

// containerUnit begins what is in the place of the unit of an app that is the image of a
// container: the name of its engine follows. No name of a unit is like that. In the place of the
// user is the word "container", for the user of the container's first process.
const containerUnit = "container:"

// engine returns the engine of an app that is the image of a container, "" for other apps.
func (a App) engine() string {
	if engine, ok := strings.CutPrefix(a.Unit, containerUnit); ok {
		return engine
	}
	return ""
}

// runsAs says in words who the app is to the agent.
func (a App) runsAs() string {
	if engine := a.engine(); engine != "" {
		return "containers of " + engine
	}
	return "unit " + a.Unit + ", user " + a.User
}

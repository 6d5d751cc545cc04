// SPDX-License-Identifier: Apache-2.0

package declaration

import (
	"fmt"
	"math"
	"regexp"

	"github.com/cvm-agentd/agentd/internal/durable"
	"github.com/cvm-agentd/agentd/internal/stricttoml"
	"github.com/cvm-agentd/agentd/pcr"
)

// NoUID is the uid of no user: setreuid(2) reads it as "no change".
const NoUID = math.MaxUint32

// dynamicName matches the names to which systemd gives a dynamic user (valid_user_group_name of
// src/basic/user-util.c, and the 31 bytes of utmp).
var dynamicName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_-]{0,30}$`)

// CheckDynamicUser refuses a name that a dynamic user cannot have.
func CheckDynamicUser(name string) error {
	if !dynamicName.MatchString(name) {
		return fmt.Errorf("%+q cannot be a dynamic user: want User= of the unit, or else the name of the unit up to its @ or its type; 1 to 31 letters, digits, _ and -, a letter or _ first", name)
	}
	return nil
}

// resolveDynamic checks the user of a unit with DynamicUser=. Its uid is that which systemd has for
// the name when a process asks.
func (d *Declaration) resolveDynamic(further []string, places *stricttoml.Places) error {
	d.UID = NoUID
	if err := CheckDynamicUser(d.User); err != nil {
		return places.Errorf("user", "%v", err)
	}
	if len(further) > 0 {
		return places.Errorf("users", "a unit with DynamicUser= cannot change its user: leave them out")
	}
	return nil
}

// notStatic refuses a dynamic user with the name of a user that exists: systemd would take that one.
func (d *Declaration) notStatic(lookup LookupUser) error {
	if !d.Dynamic {
		return nil
	}
	uid, err := lookup(d.User)
	switch {
	case durable.Short(err):
		return err
	case err != nil || pcr.DynamicUID(uid): // not in /etc/passwd
		return nil
	}
	return &Error{File: d.File, Problem: fmt.Sprintf("user %q has the uid %d, and systemd starts the unit as that user: leave out dynamic_user, or rename one of them", d.User, uid)}
}

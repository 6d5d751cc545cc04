// SPDX-License-Identifier: Apache-2.0

package pcr

import (
	"errors"
	"fmt"
	"math"
)

// The least and the greatest of the uids that systemd gives to units with DynamicUser=: the usual
// values of its build options dynamic-uid-min and dynamic-uid-max.
const (
	MinDynamicUID = 61184
	MaxDynamicUID = 65519
)

// DynamicUID reports whether a uid is one that systemd gives to a unit for as long as that runs, and
// then to another.
func DynamicUID(uid uint32) bool { return uid >= MinDynamicUID && uid <= MaxDynamicUID }

// checkUser checks who the user of an application is: one with a uid, or one to whom systemd gives
// a uid at each start of the unit.
func (a *AppEvent) checkUser() error {
	switch {
	case a.Dynamic && (a.User == "" || a.UID != nil || len(a.Users) > 0):
		return errors.New("app.dynamic must come with app.user, and without app.uid and app.users")
	case a.Dynamic:
		return nil
	case (a.UID == nil) != (a.User == ""):
		return errors.New("app.uid must be present exactly if app.user is, and app.dynamic is not")
	case a.UID != nil && *a.UID == math.MaxUint32: // no user has it: setreuid(2) reads it as "no change"
		return fmt.Errorf("app.uid %d is not that of a user", *a.UID)
	}
	return a.checkUsers()
}

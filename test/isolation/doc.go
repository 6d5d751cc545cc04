// SPDX-License-Identifier: Apache-2.0

// Package isolation has parties hold up one another, as far as they can: processes of other
// users flood a simulated machine, hang up, or hoard, while a victim does its usual work. The
// victim's times during an attack are compared with its times before, in the same run. No
// time is compared with a number of seconds.
package isolation

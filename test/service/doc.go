// SPDX-License-Identifier: Apache-2.0

// Package service runs the session of docs/service.md: curl gets a challenge from a service of package
// relying, evidence from a simulated machine, and the appraisal from the service.
package service

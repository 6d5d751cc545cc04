// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"slices"

	"github.com/cvm-agentd/agentd/verify/internal/check"
	"github.com/cvm-agentd/agentd/verify/internal/paravisor"
	"github.com/cvm-agentd/agentd/verify/internal/quote"
	"github.com/cvm-agentd/agentd/verify/internal/replay"
	"github.com/cvm-agentd/agentd/verify/internal/report"
	"github.com/cvm-agentd/agentd/verify/internal/rule"
	"github.com/cvm-agentd/agentd/verify/internal/sevsnp"
	"github.com/cvm-agentd/agentd/verify/internal/statement"
)

// Definitions lists every check in the order of an appraisal. docs/checks.md has the same
// list.
func Definitions() []Definition { return slices.Clone(definitions) }

// order indexes definitions.
var order = check.NewOrder(definitions)

// reportDefinitions are the checks of a report by itself.
var reportDefinitions = slices.Concat(report.KindDefinitions, (*sevsnp.Platform)(nil).Definitions())

// bareDefinitions are the checks of a bare report.
var bareDefinitions = slices.Concat(sevsnp.TableDefinitions, report.BareDefinitions)

// rawDefinitions are the checks that only raw material undergoes.
var rawDefinitions = slices.Concat(bareDefinitions, paravisor.Definitions, paravisor.BindingDefinitions)

// anchorDefinitions are the checks of anchored evidence.
var anchorDefinitions = slices.Concat(quote.AnchorDefinitions, replay.AnchorDefinitions)

// definitions are those of all rooms, in the order in which checks are listed.
var definitions = slices.Concat(
	statement.Definitions, quote.KeyDefinitions, quote.Definitions, quote.AnchorDefinitions,
	reportDefinitions, bareDefinitions, paravisor.Definitions,
	report.BindingDefinitions, paravisor.BindingDefinitions,
	replay.Definitions, replay.AnchorDefinitions, replay.FirmwareDefinitions,
	rule.Definitions(),
)

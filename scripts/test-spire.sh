#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Runs the plugins of SPIRE in real servers and agents of SPIRE. To build those takes half an hour on two
# processors, once. SPIRE_CACHE names another folder for what was built.
set -eu
cd "$(dirname "$0")/.."
: "${GO:=go}"
export GO
programs=$(scripts/programs.sh spire/test/programs "${SPIRE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/agentd-spire}" \
	github.com/spiffe/spire/cmd/spire-agent github.com/spiffe/spire/cmd/spire-server)
cd spire
"$GO" vet ./test
AGENTD_TEST_SPIRE=$programs "$GO" test ./test -count=1 -v -timeout 40m ${RUN:+-run "$RUN"}

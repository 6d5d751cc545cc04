#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Has a real step-ca issue certificates for keys in the TPMs of simulated machines. To build step-ca takes
# three minutes of a processor, once. STEP_CA_CACHE names another folder for what was built.
set -eu
cd "$(dirname "$0")/.."
: "${GO:=go}"
export GO
programs=$(CGO_ENABLED=0 scripts/programs.sh test/acme/programs "${STEP_CA_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/agentd-step-ca}" \
	github.com/smallstep/certificates/cmd/step-ca)
AGENTD_TEST_STEP_CA=$programs "$GO" test ./test/acme -count=1 -v -timeout 20m ${RUN:+-run "$RUN"}

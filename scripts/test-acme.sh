#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Has a real step-ca issue certificates for keys in the TPMs of simulated machines. It builds step-ca from
# its module, once for each version of it and of Go: that takes three minutes of a processor.
# STEP_CA_CACHE names another folder for what was built.
set -eu
cd "$(dirname "$0")/.."
: "${GO:=go}"
version=$(cd test/acme/programs && "$GO" list -m -f '{{.Version}}' github.com/smallstep/certificates)
all=${STEP_CA_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/agentd-step-ca}
program=$all/$version-$("$GO" env GOVERSION)-$("$GO" env GOARCH)
if ! [ -d "$program" ]; then
	echo "== building step-ca $version into $program"
	mkdir -p "$all"
	new=$(mktemp -d "$all/new.XXXXXX")
	trap 'rm -rf "$new"' EXIT
	(cd test/acme/programs && CGO_ENABLED=0 "$GO" build -o "$new/" github.com/smallstep/certificates/cmd/step-ca)
	mv "$new" "$program"
fi
AGENTD_TEST_STEP_CA=$program "$GO" test ./test/acme -count=1 -v -timeout 20m ${RUN:+-run "$RUN"}

#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Runs the plugins of SPIRE in real servers and agents of SPIRE. It builds those from their module, once
# for each version of it and of Go: that takes half an hour on two processors. SPIRE_CACHE names another
# folder for what was built.
set -eu
cd "$(dirname "$0")/.."
: "${GO:=go}"
version=$(cd spire/test/programs && "$GO" list -m -f '{{.Version}}' github.com/spiffe/spire)
all=${SPIRE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/agentd-spire}
programs=$all/$version-$("$GO" env GOVERSION)-$("$GO" env GOARCH)
if ! [ -d "$programs" ]; then
	echo "== building spire-server and spire-agent $version into $programs: half an hour"
	mkdir -p "$all"
	new=$(mktemp -d "$all/new.XXXXXX")
	trap 'rm -rf "$new"' EXIT
	(cd spire/test/programs && "$GO" build -o "$new/" github.com/spiffe/spire/cmd/spire-agent github.com/spiffe/spire/cmd/spire-server)
	mv "$new" "$programs"
fi
cd spire
"$GO" vet ./test
AGENTD_TEST_SPIRE=$programs "$GO" test ./test -count=1 -v -timeout 40m ${RUN:+-run "$RUN"}

#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Opens the pages of "agentctl verify --html" and of agentd-verifier in headless Chromium, and has axe-core
# look for barriers.
# As root on a Debian-like system it installs Chromium. It has npm fetch axe-core; if npm is not there,
# the rules of axe-core are not checked.
#
# SCREENSHOTS=DIR keeps pictures of each page.
set -eu
cd "$(dirname "$0")/.."
: "${GO:=go}"
scripts/setup.sh page

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM
version=4.14.1
sum=29348999450cdf2849a8e70b7912fc2da85a849da39c0d0d5394f51d4a9ed95c
if command -v npm >/dev/null 2>&1 && (cd "$work" && npm pack --silent "axe-core@$version" >/dev/null && tar -xzf axe-core-*.tgz package/axe.min.js); then
	echo "$sum  $work/package/axe.min.js" | sha256sum --check --quiet -
	export AGENTD_TEST_AXE="$work/package/axe.min.js"
else
	echo "test-page: axe-core could not be got: its rules are not checked" >&2
fi
if [ -n "${SCREENSHOTS:-}" ]; then
	mkdir -p "$SCREENSHOTS"
	AGENTD_TEST_SCREENSHOTS=$(cd "$SCREENSHOTS" && pwd)
	export AGENTD_TEST_SCREENSHOTS
fi
mkdir "$work/service"
(cd service && AGENTD_TEST_PAGES="$work/service" "$GO" test ./test -run '^TestPagesForBrowsers$' -count=1)
export AGENTD_TEST_SERVICE_PAGES="$work/service"
AGENTD_TEST_CHROMIUM=$(command -v chromium)
export AGENTD_TEST_CHROMIUM
"$GO" test ./test/browser -count=1 -timeout 20m "$@"

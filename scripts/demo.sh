#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Shows everything on a simulated machine. The agent measures an application before it
# starts. A verifier asks for evidence over the application's key, verifies it against a
# policy, and refuses what was tampered with. The application keeps a secret over
# restarts. Cleans up at the end, and then prints "demo: ok".
set -eu
cd "$(dirname "$0")/.."
: "${GO:=go}" "${OUT:=bin}"

step=0
say() {
	step=$((step + 1))
	echo
	echo "$step. $*"
}
die() {
	echo "demo: FAILED: $*" >&2
	for log in "$work"/*.log; do
		[ -s "$log" ] && { echo "--- $(basename "$log")" >&2; tail -n 20 "$log" >&2; }
	done
	exit 1
}

work=$(mktemp -d)
sim=
app=
cleanup() {
	for pid in $app $sim; do kill "$pid" 2>/dev/null || true; done
	for pid in $app $sim; do wait "$pid" 2>/dev/null || true; done
	rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 1' INT TERM

# until_true WHAT COMMAND...: repeats the command until it succeeds, for at least five minutes.
until_true() {
	what=$1
	shift
	tries=0
	until "$@" >/dev/null 2>&1; do
		tries=$((tries + 1))
		[ "$tries" -lt 6000 ] || die "no success within five minutes: $what"
		if [ -n "$sim" ] && ! kill -0 "$sim" 2>/dev/null; then die "agentd-sim has ended"; fi
		sleep 0.05
	done
}

scripts/setup.sh demo

say "Build agentd-sim, agentctl, and two editions of a small application."
build() {
	CGO_ENABLED=0 "$GO" build -buildmode=pie -trimpath -buildvcs=false "$@"
}
mkdir -p "$OUT" "$work/app" "$work/machine"
build -ldflags=-buildid= -o "$OUT/agentd-sim" ./cmd/agentd-sim

# The machine makes the keys of its test root while the rest is built.
machine=$work/machine
# This machine may not run systemd. So the simulated agent believes the unit that a caller declares.
switch_on() {
	rm -f "$work/agentd-sim.log" # from the machine before this one
	"$OUT/agentd-sim" --dir "$machine" --declare-identity-without-checking "$@" >"$work/agentd-sim.log" 2>&1 &
	sim=$!
}
switch_off() {
	kill "$sim"
	wait "$sim" || die "agentd-sim ended with an error"
	sim=
}
switch_on
build -buildmode=exe -ldflags=-buildid= -o "$OUT/agentctl" ./cmd/agentctl # without a loader: see the Makefile
build -o "$work/app/demoapp" ./test/demoapp
build -ldflags="-X 'main.greeting=hello from an unreviewed program'" -o "$work/other" ./test/demoapp
agentctl=$OUT/agentctl
export AGENTD_SOCKET="$machine/agentd.sock" AGENTD_ADMIN_SOCKET="$machine/admin.sock"

say "Start the agent on a simulated machine: swtpm, and SEV-SNP firmware with a test root."
until_true "agentd-sim" grep -q '^ready' "$work/agentd-sim.log"
"$agentctl" status || die "the agent cannot make evidence"

say "Declare the application, and measure it before it is started."
user=$(id -un)
cat >"$machine/apps.d/demo.toml" <<EOT
unit = "demo.service"
user = "$user"
files = ["$work/app/demoapp"]
EOT
"$agentctl" app reload
"$agentctl" measure --app demo
digest=$("$agentctl" app list --json | jq -r '.apps[] | select(.name == "demo") | .digest')

say "Start it. It makes a TLS key and listens."
"$work/app/demoapp" "$work/tls.pem" >"$work/demoapp.log" 2>&1 &
app=$!
until_true "the application" test -s "$work/tls.pem"
cat "$work/demoapp.log"

say "A verifier writes a policy: this launch measurement, and this application by its digest."
policy=$work/policy.toml
cp "$machine/policy.toml" "$policy"
cat >>"$policy" <<EOT

[[app]]
name = "demo"
unit = "demo.service"
user = "$user"
digests = ["$digest"]
required = true
EOT
tail -n 6 "$policy"

say "It sends a nonce. Ask for evidence over the nonce and the TLS key with curl alone."
head -c 32 /dev/urandom >"$work/nonce"
base64 -w 0 "$work/nonce" >"$work/nonce.b64"
sed '/^-----/d' "$work/tls.pem" | tr -d '\n' >"$work/tls.b64"
jq -n --rawfile nonce "$work/nonce.b64" --rawfile key "$work/tls.b64" '{nonce: $nonce, publicKey: $key}' >"$work/request.json"
curl -sS --fail --noproxy "*" --unix-socket "$AGENTD_SOCKET" --data-binary "@$work/request.json" \
	http://agentd/v1/evidence >"$work/curl.json" || die "curl got no evidence"
echo "curl: $(wc -c <"$work/curl.json") bytes"

say "Ask again with agentctl, and show the answer."
"$agentctl" attest --nonce "@$work/nonce" --public-key "$work/tls.pem" --out "$work/evidence.json"
"$agentctl" show "$work/evidence.json"

# verify FILE WANTED-EXIT-CODE: verifies, and prints the verdict or the first check that failed.
verify() {
	code=0
	"$agentctl" verify --json --policy "$policy" --nonce "@$work/nonce" --public-key "$work/tls.pem" \
		--trust-test-root-that-vouches-for-no-hardware "$machine/test-root.pem" \
		"$1" >"$work/appraisal.json" 2>"$work/verify.log" || code=$?
	[ "$code" = "$2" ] || {
		cat "$work/verify.log" "$work/appraisal.json" >&2
		die "verify ended with exit code $code, expected $2"
	}
	if [ "$code" = 0 ]; then
		jq -r '"   exit code 0: accepted by the word of: \(.basis), binding \(.binding)"' "$work/appraisal.json"
	else
		jq -r --arg code "$code" '"   refused, exit code \($code):", (.checks[] | select(.verdict == "fail") | "     \(.id): \(.sentence)")' "$work/appraisal.json"
	fi
}

say "Verify both, offline, against the policy, with the nonce that was sent and the key that is in use."
verify "$work/curl.json" 0
verify "$work/evidence.json" 0
jq -r '.sentences[] | "   " + .' "$work/appraisal.json"

say "Verify without the test root: refused."
code=0
"$agentctl" verify --policy "$policy" --nonce "@$work/nonce" "$work/evidence.json" >"$work/verify.log" 2>&1 || code=$?
[ "$code" = 2 ] || die "evidence of the simulator was not refused under AMD's roots (exit code $code)"
echo "   exit code 2: $(grep -m 1 '^Refused' "$work/verify.log")"

say "Flip one byte in each part of the evidence: five refusals, each with every check that failed."
# flip WHAT MEMBER OFFSET CHECK: flips the lowest bit of one byte of a member, in a copy of
# the evidence. CHECK, the check of that part, must be one of those that fail.
flip() {
	jq -r "$2" "$work/evidence.json" | base64 -d >"$work/part"
	byte=$(od -An -tu1 -j "$3" -N 1 "$work/part" | tr -d ' ')
	# shellcheck disable=SC2059 # the format is the byte
	printf "\\$(printf %03o $((byte ^ 1)))" | dd of="$work/part" bs=1 seek="$3" conv=notrunc 2>/dev/null
	base64 -w 0 "$work/part" >"$work/part.b64"
	jq -c --rawfile part "$work/part.b64" "$2 = \$part" "$work/evidence.json" >"$work/tampered.json"
	echo "   TAMPERED: $1 (byte $3 of $(wc -c <"$work/part") in \"${2#.}\", 0x$(printf %02x "$byte") made 0x$(printf %02x $((byte ^ 1))))"
	verify "$work/tampered.json" 2
	jq -e --arg id "$4" '.checks[] | select(.id == $id and .verdict == "fail")' "$work/appraisal.json" >/dev/null ||
		die "$4 did not fail for evidence with a changed $1"
}
flip "the TPM's quote" .batch.quote.attest 50 quote.signature
flip "the processor's report" .report.bytes 144 report.signature
flip "the measurement log" .log.records 200 log.digests
flip "the caller's statement" .statement 60 batch.inclusion
flip "the agent's signature" .agentSignature 10 batch.agent-signature

say "Replace the application's program on disk, as an attacker or an upgrade would."
mv "$work/other" "$work/app/demoapp"
noticed() {
	now=$("$agentctl" app list --json | jq -r '.apps[] | select(.state == "measured") | .digest')
	[ -n "$now" ] && [ "$now" != "$digest" ]
}
until_true "the agent measures the new program" noticed
"$agentctl" log | tail -n 3
"$agentctl" attest --nonce "@$work/nonce" --public-key "$work/tls.pem" --out "$work/evidence.json"
verify "$work/evidence.json" 5
jq -r '.checks[] | select(.id == "policy.app-digest") | "       expected \(.expected)", "       found    \(.found)"' "$work/appraisal.json"

say "The application keeps a secret: for its unit and user, on this chip, under this launch."
# as_unit UNIT COMMAND...: calls the agent like a process of that system unit.
as_unit() {
	unit=$1
	shift
	AGENTD_SIM_DECLARED_UNIT=$unit "$@"
}
head -c 32 /dev/urandom >"$work/secret"
as_unit demo.service "$agentctl" seal --name token "$work/secret"
as_unit demo.service "$agentctl" seal --what-if --name token | sed -n '/^what would/,/^$/p'

say "The machine restarts. The application reads its secret back. A caller of another unit is refused."
# unsealed UNIT: reads the secret back like a process of that unit.
same_secret() { unsealed demo.service && cmp -s "$work/secret" "$work/unsealed"; }
unsealed() { as_unit "$1" "$agentctl" unseal --name token --out "$work/unsealed"; }
switch_off
switch_on
until_true "agentd-sim" grep -q '^ready' "$work/agentd-sim.log"
same_secret || die "the secret did not come back"
echo "   demo.service: the secret is back"
code=0
unsealed other.service 2>"$work/refused.log" || code=$?
[ "$code" = 7 ] || die "another unit was not refused (exit code $code)"
echo "   other.service: exit code 7: $(head -n 1 "$work/refused.log")"

say "The firmware is updated: the secret still opens, and the agent seals it again to the newer firmware."
sealed_to() { "$agentctl" key list --json | jq -r '[.blobs[].tcb] | unique | join(" ")'; }
before=$(sealed_to)
switch_off
switch_on --raise-tcb 1
until_true "agentd-sim" grep -q '^ready' "$work/agentd-sim.log"
rewrapped() { now=$(sealed_to) && [ -n "$now" ] && [ "$now" != "$before" ]; }
until_true "the agent seals everything again" rewrapped
same_secret || die "the secret was lost"
echo "   sealed to TCB $before before, to $(sealed_to) now"

say "Stop the application and the simulated machine."
kill "$app"
wait "$app" 2>/dev/null || true
app=
switch_off
echo
echo "demo: ok"

# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=sh
# Functions of the scripts of both packages; packaging/build.sh copies them in. The
# drop-ins that `agentctl app enable` wrote ask the daemon before each start. Without it
# their units would not start. So a removal puts them aside, and says so, and an
# installation puts them back. systemd reads no file with that name.

parked=removed-with-agentd

# written_by_us FILE: reports whether `agentctl app enable` wrote it.
written_by_us() {
	[ -f "$1" ] || return 1
	case $(head -n 1 "$1") in
	*"agentctl app enable"*) return 0 ;;
	esac
	return 1
}

# of_a_volume FILE: reports whether `agentctl disk enroll` wrote it.
of_a_volume() {
	[ -f "$1" ] || return 1
	case $(head -n 1 "$1") in
	*"agentctl disk enroll"*) return 0 ;;
	esac
	return 1
}

# name_volumes names the enrolled volumes. Their drop-ins stay: without them systemd-cryptsetup
# would look for a key all the same.
name_volumes() {
	for file in /etc/systemd/system/systemd-cryptsetup@*.service.d/50-agentd.conf; do
		of_a_volume "$file" || continue
		unit=${file%.d/50-agentd.conf}
		printf '%s\n' "agentd: ${unit##*/} OPENS NO VOLUME without agentd: only the recovery key opens it. Its drop-in and its line in /etc/crypttab stay" >&2
	done
}

# name_tunnels names the tunnels that run. An upgrade restarts none: the administrator may be connected
# by one, and those who verify it must know its new program first.
name_tunnels() {
	running=$(systemctl list-units --plain --no-legend --state=active 'agentd-tunnel@*.service' 2>/dev/null || true)
	[ -n "$running" ] || return 0
	names=
	for word in $running; do
		case $word in agentd-tunnel@*.service) names="$names $word" ;; esac
	done
	[ -z "$names" ] || printf '%s\n' "agentd: these tunnels run the earlier program until you restart them:$names" >&2
}

# park_drop_ins puts the drop-ins aside. Before the next daemon-reload.
park_drop_ins() {
	for file in /etc/systemd/system/*.service.d/50-agentd.conf; do
		written_by_us "$file" || continue
		unit=${file%.d/50-agentd.conf}
		mv -f "$file" "$file.$parked"
		echo "agentd: ${unit##*/} is NOT MEASURED any more: it starts without agentd. Its drop-in is kept as $file.$parked, and comes back with the package" >&2
	done
	for file in /etc/systemd/system/*.service /etc/systemd/system/*.service.d/*.conf \
		/usr/lib/systemd/system/*.service /usr/lib/systemd/system/*.service.d/*.conf; do
		[ -f "$file" ] || continue
		if grep -q '^Exec.*agentctl .*measure' "$file"; then
			echo "agentd: $file calls agentctl measure, which needs the daemon: that unit will not start until you change it" >&2
		fi
	done
}

# restore_drop_ins puts back what a removal put aside. Before the next daemon-reload.
restore_drop_ins() {
	for kept in /etc/systemd/system/*.service.d/50-agentd.conf."$parked"; do
		[ -f "$kept" ] || continue
		file=${kept%."$parked"}
		unit=${file%.d/50-agentd.conf}
		if [ -e "$file" ]; then
			rm -f "$kept" # enabled again meanwhile
		else
			mv -f "$kept" "$file"
			echo "agentd: ${unit##*/} is measured before each start again, from its next start on: $file" >&2
		fi
	done
}

# delete_drop_ins deletes them, put aside or not, and those of volumes.
delete_drop_ins() {
	for file in /etc/systemd/system/*.service.d/50-agentd.conf /etc/systemd/system/*.service.d/50-agentd.conf."$parked"; do
		written_by_us "$file" || of_a_volume "$file" || continue
		rm -f "$file"
		rmdir "${file%/*}" 2>/dev/null || true
	done
}

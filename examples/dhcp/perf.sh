#!/usr/bin/env bash
#
# Measures leases a second with Kea's perfdhcp, of this server or of Kea with its memory-file backend, in two network
# namespaces: with no lease, and with 60,000. It needs root, and Debian's packages kea-admin and kea-dhcp4-server or
# kea-dhcp6-server.
#
#	bash perf.sh ours|kea 4|6 RATE [SECONDS]
#
# RATE is how many exchanges a second begin. A line has what perfdhcp says, and the CPU time that the server has used.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

server=$1 family=$2 rate=$3 seconds=${4:-6}
dir=$(mktemp -d)
pid=
trap 'kill $pid 2>/dev/null; wait; ip netns del "dhcp-s-$$"; ip netns del "dhcp-c-$$"; rm -rf "$dir"' EXIT

for n in s c; do
	ip netns add "dhcp-$n-$$"
	ip -n "dhcp-$n-$$" link set lo up
	ip netns exec "dhcp-$n-$$" sh -c 'for i in all default; do echo 0 >/proc/sys/net/ipv6/conf/$i/accept_dad; done'
done
ip link add eth0 netns "dhcp-s-$$" type veth peer name eth0 netns "dhcp-c-$$"
host=1
for n in s c; do
	ip -n "dhcp-$n-$$" addr add "10.0.0.$host/8" dev eth0
	ip -n "dhcp-$n-$$" addr add "2001:db8::$host/64" dev eth0
	ip -n "dhcp-$n-$$" link set eth0 up
	host=$((host + 1))
done

if [[ $server == ours ]]; then
	cat >"$dir/config" <<-END
		store: file://$dir/leases.db
		quota: -1
		networks:
		- name: load
		  interface: eth0
		  relayed: true
		  lease: 4h
		  subnets:
		  - {subnet: 10.0.0.0/8, pools: [10.1.0.0-10.4.255.255]}
		  - {subnet: "2001:db8::/64", pools: ["2001:db8::1:0-2001:db8::10:0"]}
	END
	go build -o "$dir/dhcpalloc" .
	start=("$dir/dhcpalloc" serve -config "$dir/config")
else
	subnet='"subnet": "10.0.0.0/8", "pools": [{"pool": "10.1.0.0-10.4.255.255"}]'
	if [[ $family == 6 ]]; then
		subnet='"subnet": "2001:db8::/64", "interface": "eth0", "pools": [{"pool": "2001:db8::1:0-2001:db8::10:0"}]'
	fi
	cat >"$dir/config" <<-END
		{"Dhcp$family": {"interfaces-config": {"interfaces": ["eth0"]},
		"lease-database": {"type": "memfile", "persist": true, "name": "$dir/leases.csv", "lfc-interval": 0},
		"valid-lifetime": 14400, "subnet$family": [{"id": 1, $subnet}],
		"loggers": [{"name": "*", "severity": "ERROR", "output_options": [{"output": "stderr"}]}]}}
	END
	start=(env KEA_PIDFILE_DIR="$dir" KEA_LOCKFILE_DIR="$dir" "kea-dhcp$family" -c "$dir/config")
fi
ip netns exec "dhcp-s-$$" "${start[@]}" >"$dir/log" 2>&1 &
pid=$!
sleep 3
kill -0 $pid || cat "$dir/log"

# load NAME RATE FIRST-MAC OPTION VALUE runs perfdhcp.
load() {
	local before after to=10.0.0.1
	[[ $family == 4 ]] || to=
	before=$(awk '{print $14 + $15}' /proc/$pid/stat)
	printf '%-8s' "$1"
	ip netns exec "dhcp-c-$$" perfdhcp "-$family" -l eth0 -r "$2" -R 10000000 -b "mac=$3" "$4" "$5" -W 1000000 $to 2>&1 |
		grep -E '^Rate:|drops:|avg delay' | tr '\n' ' ' || true
	after=$(awk '{print $14 + $15}' /proc/$pid/stat)
	echo "CPU: $((after - before))0 ms"
}

load empty "$rate" 02:01:00:00:00:00 -p "$seconds"
load fill "$rate" 02:05:00:00:00:00 -n 60000
load 60,000 "$rate" 02:11:00:00:00:00 -p "$seconds"

#!/usr/bin/env bash
# A small network on one machine: an aggregator and N devices, each in a network namespace of its own, on one bridge.
#
#   tests/netlab.sh up N RATE DELAY_MS     e.g. 2 2mbit 10; RATE none: as fast as it goes. DELAY_MS each way
#   tests/netlab.sh exec NAME COMMAND...   NAME: agg (10.77.0.1), dev1 (10.77.0.11), ...; this machine is 10.77.0.254
#   tests/netlab.sh cut NAME               takes the link down: packets vanish, as when a cable is pulled
#   tests/netlab.sh heal NAME
#   tests/netlab.sh down                   ends every process in the namespaces too
#
# Needs root, iproute2 and network namespaces. Rates: tbf. Delays: netem where the kernel has it, else netlab_delay.py
# between the bridge and the device. Exit 77: this machine cannot (the reason on standard error).
set -euo pipefail

prefix=${NETLAB_PREFIX:-edvit-} bridge=edvit-br net=10.77.0
state=${TMPDIR:-/tmp}/netlab-$prefix
here=$(cd "$(dirname "$0")" && pwd)

cannot() { echo "netlab: $*" >&2; exit 77; }
place() { case $1 in agg) echo 0 ;; dev[1-9]*) echo "${1#dev}" ;; *) echo "netlab: no place $1" >&2; exit 2 ;; esac; }
in_ns() { ip netns exec "$prefix$1" "${@:2}"; }

has_netem() {
    ip link add edvprobe type veth peer name edvprobe2
    local result=1
    tc qdisc add dev edvprobe root netem delay 1ms 2> /dev/null && result=0
    ip link del edvprobe
    return $result
}

up() {
    local count=$1 rate=$2 delay=$3 netem=0 i name address
    ip netns add "${prefix}probe" 2> /dev/null || cannot "network namespaces are not permitted"
    ip netns del "${prefix}probe"
    has_netem && netem=1
    mkdir -p "$state"
    : > "$state/relay"
    ip link add "$bridge" type bridge
    ip link set "$bridge" up
    ip addr add $net.254/24 dev "$bridge"
    for i in $(seq 0 "$count"); do
        name=dev$i address=$net.$((10 + i))
        [[ $i != 0 ]] || name=agg address=$net.1
        ip netns add "$prefix$name"
        ip link add "edvh$i" type veth peer name eth0 netns "$prefix$name"
        if [[ $i != 0 && $delay != 0 && $netem = 0 ]]; then  # eth0 - edvh =(netlab_delay.py)= edvi - edvb - bridge
            ip link add "edvi$i" type veth peer name "edvb$i"
            ip link set "edvb$i" master "$bridge" up
            ip link set "edvi$i" up
            echo "edvh$i edvi$i $delay" >> "$state/relay"
            for link in edvi edvb; do plain "$link$i"; done
        else
            ip link set "edvh$i" master "$bridge"
        fi
        ip link set "edvh$i" up
        in_ns "$name" ip addr add "$address/24" dev eth0
        in_ns "$name" ip link set lo up
        in_ns "$name" ip link set eth0 up
        plain "edvh$i"
        in_ns "$name" python3 "$here/netlab_delay.py" --plain eth0
        [[ $i = 0 ]] || shape "$i" "$name" "$rate" "$delay" $netem
    done
    if [[ -s $state/relay ]]; then
        setsid python3 "$here/netlab_delay.py" "$state/relay" > "$state/relay.log" 2>&1 < /dev/null &
        echo $! > "$state/relay.pid"
        for _ in $(seq 50); do [[ ! -e $state/relay.ready ]] || return 0; sleep 0.1; done
        cannot "the delay line did not start: $(tail -1 "$state/relay.log")"
    fi
}

plain() { python3 "$here/netlab_delay.py" --plain "$1"; }  # so that tbf and the delay line see real frames

shape() {  # both directions: eth0 inside for what the device sends, the other end for what it gets
    local i=$1 name=$2 rate=$3 delay=$4 netem=$5 run
    [[ $rate != none ]] || rate=10gbit
    for run in "in_ns $name tc qdisc add dev eth0" "tc qdisc add dev edvh$i"; do
        $run root handle 1: tbf rate "$rate" burst 8kb latency 4000ms
        [[ $netem = 0 || $delay = 0 ]] || $run parent 1:1 handle 10: netem delay "${delay}ms" limit 10000
    done
}

down() {
    local name link process
    [[ ! -f $state/relay.pid ]] || kill -9 "$(cat "$state/relay.pid")" 2> /dev/null || true
    for name in $(ip netns list | awk '{print $1}' | grep "^$prefix" || true); do
        for process in $(ip netns pids "$name"); do kill -9 "$process" 2> /dev/null || true; done
        ip netns del "$name"
    done
    for link in $(ip -o link | grep -oE '\bedv[hib][0-9]+' | sort -u); do ip link del "$link" 2> /dev/null || true; done
    ip link del "$bridge" 2> /dev/null || true
    rm -rf "$state"
}

[[ $# -ge 1 ]] || { sed -n '2,11p' "$0"; exit 2; }
[[ $(id -u) = 0 ]] || cannot "root is needed"
command -v ip > /dev/null && command -v tc > /dev/null || cannot "iproute2 is needed"
command=$1
shift
case $command in
    up) down; up "$@" ;;
    down) down ;;
    exec) exec ip netns exec "$prefix$1" "${@:2}" ;;
    cut) ip link set "edvh$(place "$1")" down ;;
    heal) ip link set "edvh$(place "$1")" up ;;
    *) echo "netlab: unknown command $command" >&2; exit 2 ;;
esac

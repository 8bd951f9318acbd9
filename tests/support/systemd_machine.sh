#!/usr/bin/env bash
# A machine with a real systemd as its first process: namespaces on this machine, over a tree of Debian or over this
# machine's own disk. What it writes goes into memory. When its first process ends, as by a power cut, it boots again
# with what it has written, while the file DISK/power is there.
#
#   tests/systemd_machine.sh TREE DISK NAME     TREE: / or a folder; DISK: an empty folder
#
# DISK/setup, a script, is run in it before each boot. The network namespace is the caller's. Needs root, systemd and
# overlayfs. Exit 77: this machine cannot (the reason on standard error).
set -euo pipefail

cannot() { echo "systemd_machine: $*" >&2; exit 77; }

boot() {  # in namespaces of its own: the first process becomes systemd
    local root=$1 name=$2 layout=$3 device
    hostname "$name"
    mount --bind "$root" "$root"
    mount -t proc proc "$root/proc"
    mount -t sysfs -o ro sysfs "$root/sys"
    mount -t tmpfs -o mode=755 tmpfs "$root/run"
    mount -t tmpfs -o mode=755 tmpfs "$root/dev"
    for device in null zero full random urandom tty; do
        touch "$root/dev/$device"
        mount --bind "/dev/$device" "$root/dev/$device"
    done
    mkdir "$root/dev/pts" "$root/dev/shm"
    mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts "$root/dev/pts"
    mount -t tmpfs tmpfs "$root/dev/shm"
    ln -s pts/ptmx "$root/dev/ptmx"
    ln -s /proc/self/fd "$root/dev/fd"

    local groups=$root/sys/fs/cgroup controller
    if [[ $layout = 2 ]]; then
        mount -t cgroup2 cgroup2 "$groups"
    else
        mount -t tmpfs -o mode=755 tmpfs "$groups"
        mkdir "$groups/unified" "$groups/systemd"
        mount -t cgroup2 cgroup2 "$groups/unified"
        mount -t cgroup -o none,name=systemd cgroup "$groups/systemd"
        for controller in $limits; do
            mkdir "$groups/$controller"
            mount -t cgroup -o "$controller" cgroup "$groups/$controller"
        done
    fi

    cd "$root"
    mkdir -p .before
    pivot_root . .before
    umount -l /.before
    # as `systemd-nspawn` does: credentials are mounted by another process, and seen by all
    mount --make-rshared /
    exec env -i container=unshare PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --log-target=journal
}

# A control group of its own in each hierarchy, so that its units have none of another machine's.
own_groups() {
    local groups=$disk/groups kind
    for kind in unified systemd $limits; do
        mkdir -p "$groups/$kind"
        case $kind in
            unified) mount -t cgroup2 cgroup2 "$groups/$kind" || cannot "no cgroup2" ;;
            systemd) [[ $layout = 2 ]] || mount -t cgroup -o none,name=systemd cgroup "$groups/$kind" ;;
            *) mount -t cgroup -o "$kind" cgroup "$groups/$kind" ;;
        esac
        mountpoint -q "$groups/$kind" || continue
        mkdir -p "$groups/$kind/$group"
        echo 0 > "$groups/$kind/$group/cgroup.procs"
    done
}

leave_groups() {
    local groups=$disk/groups kind
    for kind in unified systemd $limits; do
        mountpoint -q "$groups/$kind" || continue
        echo 0 > "$groups/$kind/cgroup.procs"
        find "$groups/$kind/$group" -depth -type d -exec rmdir {} \; 2> /dev/null || true
    done
}

if [[ $1 = boot ]]; then
    limits=$5 boot "$2" "$3" "$4"
fi

[[ $(id -u) = 0 ]] || cannot "root is needed"
if [[ -z ${MACHINE_NAMESPACE:-} ]]; then
    unshare --mount true 2> /dev/null || cannot "mount namespaces are not permitted"
    MACHINE_NAMESPACE=1 exec unshare --mount --propagation private "$0" "$@"
fi

tree=$(readlink -f "$1") disk=$2 name=$3 group=edvit-$3-$$
[[ -x $tree/lib/systemd/systemd ]] || cannot "no systemd in $tree"
# hybrid, as version 252 takes it where this machine's controllers are in hierarchies of the first version; none of
# those is there for the second version then, and so no memory limit
layout=2 limits=""
version=$(chroot "$tree" /lib/systemd/systemd --version | sed -n '1s/systemd \([0-9]*\).*/\1/p')
if grep -q ':name=systemd:' /proc/self/cgroup && ((version < 256)); then
    layout=1
    for controller in memory pids; do
        ! grep -q "^[0-9]*:$controller:" /proc/self/cgroup || limits+=" $controller"
    done
fi

mount -t tmpfs tmpfs "$disk/written"
mkdir "$disk/written/upper" "$disk/written/work"
mount -t overlay overlay "$disk/root" \
    -o "lowerdir=$tree,upperdir=$disk/written/upper,workdir=$disk/written/work" || cannot "no overlayfs"
own_groups
trap leave_groups EXIT
while [[ -e $disk/power ]]; do
    chroot "$disk/root" sh -s -- "$name" < "$disk/setup" || cannot "its setup failed"
    # --kill-child: none is left where this is ended
    unshare --mount --propagation private --pid --uts --ipc --cgroup --fork --kill-child \
        "$0" boot "$disk/root" "$name" "$layout" "$limits" || true
done

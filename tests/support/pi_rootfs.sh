#!/usr/bin/env bash
# A Debian arm64 userland, as on a Raspberry Pi with a 64-bit system, run by qemu-user on another machine.
#
#   tests/pi_rootfs.sh make DIR SUITE REQUIREMENT...   about 10 s: packages unpacked, not configured; wheels beside them
#   tests/pi_rootfs.sh run DIR SHARE COMMAND...        runs a command in it; the host's folder SHARE appears as /share.
#                                                      What it writes goes to the folder $PI_DISK, where that is set
#   tests/pi_rootfs.sh forget DIR                      takes the emulator of aarch64 programs away from this machine
#
# SUITE is bookworm (Python 3.11) or trixie (3.13). Needs root, apt and binfmt_misc. Exit 77: this machine cannot (the
# reason on standard error); any other: a failure. Nothing stays mounted: each call has a mount namespace of its own.
# $PI_QEMU_DIR (default /opt/pi-qemu) keeps qemu 10 of bookworm-backports: qemu 7.2 crashes inside ai-edge-litert.
set -euo pipefail

cannot() { echo "pi_rootfs: $*" >&2; exit 77; }

[[ $# -ge 2 ]] || { sed -n '2,12p' "$0"; exit 2; }
[[ $(id -u) = 0 ]] || cannot "root is needed"
if [[ -z ${PI_NAMESPACE:-} ]]; then
    unshare --mount true 2> /dev/null || cannot "mount namespaces are not permitted"
    PI_NAMESPACE=1 exec unshare --mount --propagation private "$0" "$@"
fi

command=$1 dir=$(readlink -m "$2")
shift 2
root=/proc/sys/fs/binfmt_misc entry=edvit-aarch64
qemu=${PI_QEMU_DIR:-/opt/pi-qemu}/qemu-aarch64
# the runtimes' libraries, what makes environments of Python, and what `edvit deploy` calls
packages=python3-minimal,python3,libstdc++6,libatomic1,python3-venv,python3-pip-whl,python3-setuptools-whl
packages+=,openssh-server,rsync,dash,coreutils,util-linux,tar
mirror=$(apt-get indextargets --format '$(SITE)' 2> /dev/null | grep -v security | head -1) || true

binfmt() {
    [[ -e $root/register ]] || mount -t binfmt_misc binfmt_misc "$root" 2> /dev/null || cannot "no binfmt_misc"
}

emulator() {  # qemu, unpacked and registered for aarch64 programs
    if [[ ! -x $qemu ]]; then
        local apt
        apt=$(mktemp -d)
        mkdir -p "$apt/lists/partial" "$apt/archives/partial" "$(dirname "$qemu")"
        echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror bookworm-backports main" \
            > "$apt/sources.list"
        local options=(-o "Dir::Etc::SourceList=$apt/sources.list" -o "Dir::Etc::SourceParts=/dev/null"
                       -o "Dir::State::Lists=$apt/lists" -o "Dir::Cache=$apt" -o "APT::Sandbox::User=root")
        apt-get "${options[@]}" update -qq || cannot "bookworm-backports cannot be reached"
        (cd "$apt" && apt-get "${options[@]}" download -qq qemu-user > /dev/null) || cannot "no qemu-user package"
        dpkg-deb --fsys-tarfile "$apt"/qemu-user_*.deb | tar x -C "$(dirname "$qemu")" --strip-components=3 \
            ./usr/bin/qemu-aarch64
        rm -rf "$apt"
    fi
    binfmt
    [[ ! -e $root/$entry ]] || return 0
    local machine='\x7f\x45\x4c\x46\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00'
    local mask='\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff'
    # The newest entry wins; one of the system's own stays. F: the interpreter is opened once, so that the root file
    # system needs no copy of it.
    printf ':%s:M::%s:%s:%s:POF' "$entry" "$machine" "$mask" "$qemu" > "$root/register" || cannot "binfmt_misc refuses"
}

make() {
    local suite=$1 python
    shift
    [[ -n $mirror ]] || cannot "apt knows no mirror"
    if ! command -v mmdebstrap > /dev/null; then
        apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends mmdebstrap \
            > /dev/null || cannot "mmdebstrap cannot be installed"
    fi
    emulator
    rm -rf --one-file-system "$dir"
    mmdebstrap -q --arch=arm64 --variant=extract --hook-dir=/usr/share/mmdebstrap/hooks/merged-usr \
        --include="$packages" "$suite" "$dir" "$mirror" \
        || cannot "no arm64 packages of $suite from apt's mirror"
    mkdir -p "$dir"/{proc,sys/devices/system/cpu,dev,tmp,share,root,run/sshd,etc}
    chmod 1777 "$dir/tmp"
    # what the scripts of the packages would have written
    printf 'root:x:0:0:root:/root:/bin/sh\nsshd:x:100:65534::/run/sshd:/usr/sbin/nologin\n' > "$dir/etc/passwd"
    printf 'root:x:0:\nnogroup:x:65534:\n' > "$dir/etc/group"
    python=$(cd "$dir/usr/bin" && ls -d python3.??)
    local platforms=()
    for glibc in 17 24 26 27 28 31 34 35 36; do platforms+=(--platform "manylinux_2_${glibc}_aarch64"); done
    "${PI_HOST_PYTHON:-python3}" -m pip install -q --no-compile --only-binary=:all: --implementation cp \
        --python-version "${python#python}" --platform manylinux2014_aarch64 "${platforms[@]}" \
        --target "$dir/opt/pi" "$@"
}

run() {
    [[ -x $dir/usr/bin/python3 ]] || cannot "$dir was not made"
    emulator
    if [[ -n ${PI_DISK:-} ]]; then
        mkdir -p "$PI_DISK"/{written,work,root}
        mount -t overlay overlay "$PI_DISK/root" \
            -o "lowerdir=$dir,upperdir=$PI_DISK/written,workdir=$PI_DISK/work" || cannot "no overlayfs"
        dir=$PI_DISK/root
    fi
    mount -t proc proc "$dir/proc"
    mount --bind -o ro /sys/devices/system/cpu "$dir/sys/devices/system/cpu"  # XNNPACK counts cores here
    mount --bind "$1" "$dir/share"
    local device
    for device in null zero random urandom; do
        touch "$dir/dev/$device"
        mount --bind "/dev/$device" "$dir/dev/$device"
    done
    shift
    exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/tmp LANG=C.UTF-8 PYTHONPATH=/share/source:/opt/pi \
        OMP_NUM_THREADS=1 chroot "$dir" "$@"
}

case $command in
    make) make "$@" ;;
    run) run "$@" ;;
    forget) binfmt; [[ ! -e $root/$entry ]] || echo -1 > "$root/$entry" ;;
    *) echo "pi_rootfs: unknown command $command" >&2; exit 2 ;;
esac

#!/bin/bash
# Runs inside the guest: prepares it, runs the command, saves the kernel log.
#
#   inside.sh RUN_FOLDER
#
# RUN_FOLDER is shared with the host and holds
#   environment.sh   variables to export, PEERPATH_LAB_* among them
#   prepare          bash commands of the scenario that prepare its devices
#   functions        one line per PCI function: NAME BDF VENDOR:DEVICE RDMA (- without RDMA)
#   command          the command, as a bash script
# This script writes
#   ready            when the guest is prepared
#   exit-code        of the command; absent if the command did not exit
#   dmesg.txt        the kernel log

set -u
run=$1

progress() { echo "guest: $*" >&2; }

# Stops before the command starts. Called if the guest differs from its scenario: its results would
# be meaningless.
fail() {
    progress "$*"
    dmesg >"$run/dmesg.txt"
    exit 1
}

mount_file_systems() {
    mountpoint -q /sys/kernel/debug || mount -t debugfs debugfs /sys/kernel/debug
    mountpoint -q /sys/kernel/tracing || mount -t tracefs tracefs /sys/kernel/tracing
    mountpoint -q /dev/shm || mount -t tmpfs tmpfs /dev/shm
    ulimit -l unlimited
}

check_functions() {
    local name bdf pci_id rdma found
    while read -r name bdf pci_id rdma; do
        found=$(pci_id_of "$bdf") || fail "cannot find $name: no function at $bdf"
        [[ $found == "$pci_id" ]] || fail "cannot use $name: the function at $bdf is $found, not $pci_id"
    done <"$run/functions"
}

pci_id_of() {
    local device=/sys/bus/pci/devices/$1 vendor product
    vendor=$(cat "$device/vendor" 2>/dev/null) && product=$(cat "$device/device") || return 1
    echo "${vendor#0x}:${product#0x}"
}

# The kernel numbers interfaces in probe order, so each interface is looked up by its
# PCI function. Every soft-RoCE device gets its own network, so that its traffic
# stays on its own interface.
start_rdma() {
    local name bdf pci_id rdma netdev net=0
    # Start all links first: each needs a second or two.
    while read -r name bdf pci_id rdma; do
        netdev=$(netdev_of "$name" "$bdf") || exit 1
        net=$((net + 1))
        ip link set "$netdev" up
        ip address add "192.168.$((100 + net)).1/24" dev "$netdev"
    done < <(rdma_functions)
    while read -r name bdf pci_id rdma; do
        netdev=$(netdev_of "$name" "$bdf")
        rdma link add "$rdma" type rxe netdev "$netdev" ||
            fail "cannot create $rdma on $netdev: rdma link add failed"
    done < <(rdma_functions)
    while read -r name bdf pci_id rdma; do
        wait_until_active "$rdma"
    done < <(rdma_functions)
}

# Lists the functions with RDMA, sorted by soft-RoCE device, so that the order is always the same.
rdma_functions() { awk '$4 != "-"' "$run/functions" | sort -k4; }

netdev_of() {
    local found
    found=$(ls "/sys/bus/pci/devices/$2/net" 2>/dev/null)
    [[ -n $found ]] || fail "cannot set up RDMA on $1: the function at $2 has no network interface"
    echo "$found"
}

wait_until_active() {
    local tries
    for ((tries = 0; tries < 100; tries++)); do
        [[ $(cat "/sys/class/infiniband/$1/ports/1/state") == *ACTIVE ]] && return
        sleep 0.1
    done
    fail "cannot use $1: its port did not become active within 10 s"
}

summary() {
    local name bdf pci_id rdma group
    progress "Linux $(uname -r), $(nproc) CPUs, up $(cut -d. -f1 /proc/uptime) s"
    while read -r name bdf pci_id rdma; do
        group=$(basename "$(readlink "/sys/bus/pci/devices/$bdf/iommu_group")")
        [[ $rdma == - ]] && rdma=""
        progress "  $bdf $name, IOMMU group ${group:-none}${rdma:+, $rdma runs on it}"
    done <"$run/functions"
}

# shellcheck disable=SC1091 # the host writes the file for this run
source "$run/environment.sh"
mount_file_systems
bash -e "$run/prepare" || fail "cannot prepare the guest: a command of the scenario's \`prepare\` failed"
check_functions
start_rdma
summary
touch "$run/ready"

bash "$run/command"
echo $? >"$run/exit-code"
dmesg >"$run/dmesg.txt"

#!/bin/bash
# Runs inside the guest: prepares it, runs the command, brings the log out.
#
#   inside.sh RUN_FOLDER
#
# RUN_FOLDER is shared with the host and holds
#   environment.sh   variables to export, PEERPATH_LAB_* among them
#   prepare          what the scenario does to its devices first, as bash reads it
#   functions        a line per PCI function: NAME BDF VENDOR:DEVICE RDMA-or-dash
#   command          what to run, as bash reads it
# and takes
#   ready            once the guest is prepared
#   exit-code        of the command, or nothing where it never came to that
#   dmesg.txt        the kernel's log

set -u
run=$1

say() { echo "guest: $*" >&2; }

# The guest differs from what its scenario says: no result of it would mean
# anything, so it ends before the command starts.
give_up() {
    say "$*"
    dmesg >"$run/dmesg.txt"
    exit 1
}

mount_what_is_needed() {
    mountpoint -q /sys/kernel/debug || mount -t debugfs debugfs /sys/kernel/debug
    mountpoint -q /sys/kernel/tracing || mount -t tracefs tracefs /sys/kernel/tracing
    mountpoint -q /dev/shm || mount -t tmpfs tmpfs /dev/shm
    ulimit -l unlimited
}

check_functions() {
    local name bdf pci_id rdma found
    while read -r name bdf pci_id rdma; do
        found=$(pci_id_of "$bdf") || give_up "$name should be at $bdf, but nothing is there"
        [[ $found == "$pci_id" ]] || give_up "$name at $bdf should be $pci_id, but is $found"
    done <"$run/functions"
}

pci_id_of() {
    local device=/sys/bus/pci/devices/$1 vendor product
    vendor=$(cat "$device/vendor" 2>/dev/null) && product=$(cat "$device/device") || return 1
    echo "${vendor#0x}:${product#0x}"
}

# The kernel numbers interfaces as it finds them, so each is found by the function
# it sits on. Every soft-RoCE device gets a network of its own: its traffic stays
# on it.
start_rdma() {
    local name bdf pci_id rdma netdev net=0
    # All links first: each takes a second or two to come up.
    while read -r name bdf pci_id rdma; do
        netdev=$(netdev_of "$name" "$bdf") || exit 1
        net=$((net + 1))
        ip link set "$netdev" up
        ip address add "192.168.$((100 + net)).1/24" dev "$netdev"
    done < <(rdma_functions)
    while read -r name bdf pci_id rdma; do
        netdev=$(netdev_of "$name" "$bdf")
        rdma link add "$rdma" type rxe netdev "$netdev" ||
            give_up "rdma link add $rdma over $netdev failed"
    done < <(rdma_functions)
    while read -r name bdf pci_id rdma; do
        wait_until_active "$rdma"
    done < <(rdma_functions)
}

# In the order of their soft-RoCE devices, which is thereby always the same.
rdma_functions() { awk '$4 != "-"' "$run/functions" | sort -k4; }

netdev_of() {
    local found
    found=$(ls "/sys/bus/pci/devices/$2/net" 2>/dev/null)
    [[ -n $found ]] || give_up "$1 at $2 has no network interface"
    echo "$found"
}

wait_until_active() {
    local tries
    for ((tries = 0; tries < 100; tries++)); do
        [[ $(cat "/sys/class/infiniband/$1/ports/1/state") == *ACTIVE ]] && return
        sleep 0.1
    done
    give_up "the port of $1 did not become active within 10 s"
}

summary() {
    local name bdf pci_id rdma group
    say "Linux $(uname -r), $(nproc) processors, up $(cut -d. -f1 /proc/uptime) s"
    while read -r name bdf pci_id rdma; do
        group=$(basename "$(readlink "/sys/bus/pci/devices/$bdf/iommu_group")")
        [[ $rdma == - ]] && rdma=""
        say "  $bdf $name, IOMMU group ${group:-none}${rdma:+, under $rdma}"
    done <"$run/functions"
}

# shellcheck disable=SC1091 # written by the host for this run
source "$run/environment.sh"
mount_what_is_needed
bash -e "$run/prepare" || give_up "the scenario's preparation failed"
check_functions
start_rdma
summary
touch "$run/ready"

bash "$run/command"
echo $? >"$run/exit-code"
dmesg >"$run/dmesg.txt"

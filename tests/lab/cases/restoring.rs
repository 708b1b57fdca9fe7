//! `restore` returns the host to its earlier state, and does not change functions and groups that were replaced meanwhile.

use std::fs;
use std::path::Path;

use libtest_mimic::Failed;

use crate::Case;
use crate::command::{run, shell, start, until};
use crate::functions::{EXPORTER, NIC, driver, interface};
use crate::host_state::HostState;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case { name: "restore_recreates_the_network_of_a_bound_nic", scenarios: &["default"], run: network },
        Case { name: "restore_leaves_a_group_with_a_reused_number_alone", scenarios: &["default"], run: reused_number },
    ]
}

/// Changes every setting that is lost when the NIC is unbound from its driver.
fn network() -> Result<(), Failed> {
    let name = interface(NIC)?;
    for command in [
        "link set dev NAME mtu 1400",
        "link set dev NAME txqueuelen 500",
        "link set dev NAME alias lab-rack-2",
        "link set dev NAME promisc on",
        "link property add dev NAME altname lan0",
        "address replace 10.77.0.1/16 dev NAME",
        "address replace fd77::1/64 dev NAME nodad",
        "route replace 10.78.0.0/16 via 10.77.0.2 dev NAME",
        "neighbour replace 10.77.0.9 lladdr 02:00:00:00:00:09 nud permanent dev NAME",
        "neighbour replace fd77::9 lladdr 02:00:00:00:00:09 nud permanent dev NAME",
    ] {
        shell(&format!("ip {}", command.replace("NAME", &name)))?;
    }
    until("the RDMA device is active", || {
        fs::read_to_string("/sys/class/infiniband/rxe0/ports/1/state").is_ok_and(|state| state.contains("ACTIVE"))
    })?;
    let before = settled()?;
    run(&format!("bind --force-in-use {NIC}"))?.expect(0)?;
    if driver(NIC).as_deref() != Some("vfio-pci") || Path::new("/sys/class/infiniband/rxe0").exists() {
        return Err(format!("{NIC} was not bound: {:?}", driver(NIC)).into());
    }
    run("restore")?.expect(0)?.prints("bound to e1000e again")?;
    before.expect()?;
    run("restore")?.expect(0)?.prints("nothing to restore")?;
    for command in [
        "link set dev NAME promisc off",
        "link set dev NAME txqueuelen 1000",
        "link property del dev NAME altname lan0",
    ] {
        shell(&format!("ip {}", command.replace("NAME", &name)))?;
    }
    Ok(())
}

/// Waits until two readings are equal, because links and routes settle some time after a change.
pub(super) fn settled() -> Result<HostState, Failed> {
    let mut before = HostState::read()?;
    until("the settings of the host have settled", || {
        std::thread::sleep(std::time::Duration::from_secs(2));
        let now = HostState::read().ok();
        let is_settled = now.as_ref() == Some(&before);
        before = now.unwrap_or_else(|| before.clone());
        is_settled
    })?;
    Ok(before)
}

/// Kills a run that has changed the type of the NIC's group. Removes both functions, then rescans the NIC before the exporter. At
/// boot the kernel finds the exporter first, so the exporter's group now gets the number of the NIC's group.
fn reused_number() -> Result<(), Failed> {
    let name = interface(NIC)?;
    let number = group(NIC)?;
    let out = tempfile::tempdir()?;
    let mut running = start(&format!(
        "run --from {EXPORTER}:2 --to verbs:rxe0 --op write --mode completion --size 4K --path bypass --force-in-use \
         --duration 600s --out {}",
        out.path().display()
    ))?;
    let is_changed =
        || kind(&number) == "identity" && driver(NIC).is_some() && driver(EXPORTER).as_deref() == Some("vfio-pci");
    until("the type is changed and the exporter is bound", is_changed)?;
    running.signal("KILL")?;
    running.wait()?;
    for bdf in [NIC, EXPORTER] {
        fs::write(format!("/sys/bus/pci/devices/{bdf}/remove"), "1")?;
    }
    for bdf in [NIC, EXPORTER] {
        // The file of a port would rescan the bus above the port, with both functions below it.
        let (bus, _) = bdf.rsplit_once(':').ok_or("invalid address")?;
        fs::write(format!("/sys/class/pci_bus/{bus}/rescan"), "1")?;
    }
    until("the NIC has its interface", || interface(NIC).is_ok())?;
    let outcome = expect_untouched(&number);
    // The interface is new. Configure it as the lab does.
    until("the NIC has its name", || interface(NIC).is_ok_and(|now| now == name))?;
    shell(&format!("ip link set {name} up && ip address replace 192.168.101.1/24 dev {name}"))?;
    shell(&format!("rdma link add rxe0 type rxe netdev {name}"))?;
    until("the RDMA device is active", || {
        fs::read_to_string("/sys/class/infiniband/rxe0/ports/1/state").is_ok_and(|state| state.contains("ACTIVE"))
    })?;
    outcome
}

fn expect_untouched(number: &str) -> Result<(), Failed> {
    if group(EXPORTER)? != number {
        return Err(format!("{EXPORTER} is in group {} instead of {number}", group(EXPORTER)?).into());
    }
    // A type that `restore` would change if it trusted the number.
    let default = kind(number);
    fs::write(format!("/sys/kernel/iommu_groups/{number}/type"), "identity")?;
    let restored = run("restore")?.expect(3)?.prints(&format!("IOMMU group {number}"))?;
    let now = kind(number);
    fs::write(format!("/sys/kernel/iommu_groups/{number}/type"), &default)?;
    if now != "identity" {
        return Err(format!("the group of {EXPORTER} was switched to {now}: {}", restored.stdout).into());
    }
    run("restore")?.expect(0)?.prints("nothing to restore").map(drop)
}

fn group(bdf: &str) -> Result<String, Failed> {
    let link = fs::read_link(format!("/sys/bus/pci/devices/{bdf}/iommu_group"))?;
    Ok(link.file_name().ok_or("no group")?.to_string_lossy().into_owned())
}

fn kind(group: &str) -> String {
    fs::read_to_string(format!("/sys/kernel/iommu_groups/{group}/type")).unwrap_or_default().trim().to_owned()
}

//! Changes and restores a fake host, with a failure or a killed process at every step.

use super::*;
use crate::testing::{Fixture, picture};
use crate::{Hold, Outcome, Restored, bind, restore};
use peerpath_paths::{AcsControl, IommuGroupId};

const NIC: &str = "0000:02:00.0";
const PORT: &str = "0000:00:19.0";
const EXPORTER: &str = "0000:01:00.0";

/// A NIC with an interface that is up, addresses, a route and an RDMA device; a port with ACS; an exporter bound to
/// vfio-pci.
fn fixture() -> Fixture {
    let fixture = Fixture::new();
    fixture.pci_driver("pcieport");
    fixture.function(EXPORTER).group(1).driver("vfio-pci").file("driver_override", "vfio-pci\n");
    fixture.function(PORT).group(9).driver("pcieport").file("class", "0x060400\n").acs(0x1d);
    fixture.nic(NIC, 9);
    fixture.file("sys/kernel/iommu_groups/9/type", "DMA-FQ\n");
    fixture
}

fn bdf(text: &str) -> Bdf {
    text.parse().unwrap()
}

fn forced(fixture: &Fixture) -> Options {
    Options { force_in_use: true, ..fixture.options() }
}

fn identity() -> HostChange {
    HostChange::Domain { group: IommuGroupId(9), to: DomainType::Identity }
}

fn cleared() -> HostChange {
    HostChange::Acs { bdf: bdf(PORT), offset: 0x106, bits: AcsControl(0x0c), set: false }
}

fn make(fixture: &Fixture, changes: &[HostChange]) -> Result<Arrangement, Error> {
    Arrangement::make(bdf(EXPORTER), bdf(NIC), changes, &[bdf(EXPORTER), bdf(PORT), bdf(NIC)], &forced(fixture))
}

/// Makes changes and does not revert them, as if the process were killed.
fn abandon(fixture: &Fixture, changes: &[HostChange]) {
    make(fixture, changes).unwrap().entries.clear();
}

fn control(fixture: &Fixture) -> u16 {
    fixture.host().read_config(bdf(PORT), 0x106).unwrap()
}

#[test]
fn makes_and_reverts_both_changes() {
    let fixture = fixture();
    let before = picture(&fixture);
    let arrangement = make(&fixture, &[identity(), cleared()]).unwrap();
    assert_eq!(
        arrangement.done(),
        ["IOMMU group 9 switched from DMA-FQ to identity", "ACS redirect cleared on 0000:00:19.0 (RR CR)"]
    );
    assert_eq!(fixture.read("sys/kernel/iommu_groups/9/type"), "identity\n");
    assert_eq!(control(&fixture), 0x11);
    // While the changes are in effect, the NIC has its complete configuration.
    assert_eq!(fixture.read("sys/class/net/eth0/flags"), "0x1003\n");
    assert_eq!(fixture.read("sys/class/infiniband/rxe0/parent"), "eth0\n");
    assert_eq!(fixture.journaled().len(), 3);
    arrangement.revert().unwrap();
    assert_eq!(picture(&fixture), before);
    assert_eq!(fixture.journaled(), []);
}

#[test]
fn changes_functions_in_use_only_with_force() {
    let fixture = fixture();
    let before = picture(&fixture);
    let refused = Arrangement::make(bdf(EXPORTER), bdf(NIC), &[identity()], &[], &fixture.options());
    assert!(matches!(refused, Err(Error::InUse { forced: false, .. })), "{refused:?}");
    fixture.file("proc/net/route", "header\neth0 00000000 0 0003 0 0 0 00000000 0 0 0\n");
    assert!(matches!(make(&fixture, &[identity()]), Err(Error::InUse { forced: true, .. })));
    std::fs::remove_file(fixture.path("proc/net/route")).unwrap();
    fixture.link("sys/class/net/eth0/upper_bond0", "/anywhere");
    assert!(matches!(make(&fixture, &[identity()]), Err(Error::NotRestorable { .. })));
    std::fs::remove_file(fixture.path("sys/class/net/eth0/upper_bond0")).unwrap();
    assert_eq!(picture(&fixture), before);
    assert_eq!(fixture.journaled(), []);
}

#[test]
fn needs_no_force_for_an_idle_function() {
    let fixture = Fixture::new();
    fixture.function(EXPORTER).group(1);
    fixture.function(NIC).group(9).driver("mlx5_core");
    fixture.file("sys/kernel/iommu_groups/9/type", "DMA\n");
    let arrangement = Arrangement::make(bdf(EXPORTER), bdf(NIC), &[identity()], &[], &fixture.options()).unwrap();
    assert_eq!(arrangement.done(), ["IOMMU group 9 switched from DMA to identity"]);
    drop(arrangement);
    assert_eq!(fixture.read("sys/kernel/iommu_groups/9/type"), "DMA\n");
    assert_eq!(fixture.host().driver(bdf(NIC)).unwrap().as_deref(), Some("mlx5_core"));
}

#[test]
fn changes_nothing_that_another_run_has_locked() {
    let fixture = fixture();
    let before = picture(&fixture);
    // Simulate that other processes hold the locks.
    let foreign = || {
        for lock in [&format!("{NIC}.lock"), &format!("{PORT}.lock"), "group-9.lock"] {
            std::fs::write(fixture.options().state_dir.join(lock), "4242").unwrap();
        }
    };
    let relying = [make(&fixture, &[]).unwrap(), make(&fixture, &[]).unwrap()];
    for (change, subject) in [(identity(), Subject::Group(IommuGroupId(9))), (cleared(), Subject::Function(bdf(PORT)))]
    {
        foreign();
        let refused = make(&fixture, &[change]);
        assert!(
            matches!(&refused, Err(Error::Locked { subject: held, pid: Some(4242) }) if *held == subject),
            "{refused:?}"
        );
    }
    assert_eq!(picture(&fixture), before);
    // `Hold` locks the exporter; `make` does not.
    drop(Hold::acquire(bdf(EXPORTER), &fixture.options()).unwrap());
    drop(relying);
    let changed = make(&fixture, &[cleared()]).unwrap();
    foreign();
    assert!(matches!(make(&fixture, &[]), Err(Error::Locked { pid: Some(4242), .. })));
    changed.revert().unwrap();
    assert_eq!(picture(&fixture), before);
}

#[test]
fn locks_a_function_once_if_two_changes_affect_it() {
    let fixture = fixture();
    fixture.function(NIC).acs(0x1d);
    let own = HostChange::Acs { bdf: bdf(NIC), offset: 0x106, bits: AcsControl(0x0c), set: false };
    make(&fixture, &[identity(), own]).unwrap().revert().unwrap();
}

#[test]
fn never_changes_the_path_of_functions_that_others_have_open() {
    let fixture = fixture();
    let before = picture(&fixture);
    fixture.link("proc/4242/fd/7", "/dev/vfio/1");
    assert!(matches!(make(&fixture, &[cleared()]), Err(Error::OpenElsewhere { pids, .. }) if pids == [4242]));
    // A virtual machine has another function below the port open.
    let neighbour = format!("sys/devices/pci0000:00/{PORT}/0000:05:00.0");
    fixture.file(&format!("{neighbour}/vendor"), "0x1\n");
    fixture.link("sys/bus/pci/devices/0000:05:00.0", &format!("../../../../{neighbour}"));
    fixture.link(&format!("{neighbour}/iommu_group"), "../../../kernel/iommu_groups/5");
    fixture.link("proc/4242/fd/7", "/dev/vfio/5");
    assert!(matches!(make(&fixture, &[cleared()]), Err(Error::InUse { .. })));
    for left in ["proc/4242", &neighbour] {
        std::fs::remove_dir_all(fixture.path(left)).unwrap();
    }
    std::fs::remove_file(fixture.path("sys/bus/pci/devices/0000:05:00.0")).unwrap();
    assert_eq!(picture(&fixture), before);
}

#[test]
fn reverts_everything_after_a_refused_step() {
    for step in 0.. {
        let fixture = fixture();
        let before = picture(&fixture);
        fixture.fail_once_after(step);
        if make(&fixture, &[identity(), cleared()]).is_ok() {
            assert!(step > 15, "{step} steps are all that failed");
            break;
        }
        assert_eq!(picture(&fixture), before, "failing at step {step}");
        assert_eq!(fixture.journaled(), []);
    }
}

/// The journal is written before each change, so `restore` recreates the initial state whenever the process dies.
#[test]
fn restores_after_a_death_at_any_step() {
    let mut lived = false;
    for step in 0.. {
        if lived {
            break;
        }
        let fixture = fixture();
        let before = picture(&fixture);
        fixture.die_after(step);
        lived = make(&fixture, &[identity(), cleared()]).is_ok();
        fixture.revive();
        let restored = restore(&fixture.options()).unwrap();
        assert!(restored.iter().all(|one| one.outcome.is_settled()), "{step}: {restored:?}");
        assert_eq!(picture(&fixture), before, "dead after step {step}");
        assert_eq!(fixture.journaled(), []);
    }
}

#[test]
fn reports_changes_that_cannot_be_reverted() {
    use peerpath_paths::{Explained as _, Severity};
    let fixture = fixture();
    let before = picture(&fixture);
    fixture.die_after(10);
    let refused = make(&fixture, &[identity(), cleared()]).unwrap_err();
    assert!(matches!(&refused, Error::LeftChanged { .. }), "{refused:?}");
    assert_eq!(refused.severity(), Severity::Failed);
    assert!(refused.explanation().remedy.contains("the journal lists the remaining changes"));
    assert_eq!(fixture.journaled(), [bdf(NIC)]);
    fixture.revive();
    assert!(restore(&fixture.options()).unwrap().iter().all(|one| one.outcome.is_settled()));
    assert_eq!(picture(&fixture), before);
}

#[test]
fn keeps_a_driver_if_the_function_is_in_use_meanwhile() {
    let fixture = fixture();
    let before = picture(&fixture);
    let default_route = || fixture.file("proc/net/route", "header\neth0 00000000 0 0003 0 0 0 00000000 0 0 0\n");
    let arrangement = make(&fixture, &[identity()]).unwrap();
    default_route();
    let meanwhile = picture(&fixture);
    assert!(matches!(arrangement.revert(), Err(Error::InUse { forced: true, .. })));
    // A later `restore` reads the same journal.
    let restored = restore(&fixture.options()).unwrap();
    assert!(matches!(restored[0].outcome, Outcome::Failed { error: Error::InUse { .. } }), "{restored:?}");
    assert_eq!(picture(&fixture), meanwhile);
    assert_eq!(fixture.journaled(), [bdf(NIC)]);
    std::fs::remove_dir_all(fixture.path("proc/net")).unwrap();
    assert!(restore(&fixture.options()).unwrap()[0].outcome.is_settled());
    assert_eq!(picture(&fixture), before);
    assert_eq!(fixture.journaled(), []);
}

#[test]
fn restores_after_a_death_while_restoring() {
    let mut lived = false;
    for step in 0.. {
        if lived {
            break;
        }
        let fixture = fixture();
        let before = picture(&fixture);
        abandon(&fixture, &[identity(), cleared()]);
        fixture.die_after(step);
        lived = restore(&fixture.options()).unwrap().iter().all(|one| one.outcome.is_settled());
        fixture.revive();
        restore(&fixture.options()).unwrap();
        assert_eq!(picture(&fixture), before, "dead after step {step}");
    }
}

#[test]
fn restores_the_ports_before_the_driver_of_the_exporter() {
    let fixture = fixture();
    fixture.function(EXPORTER).driver("ivshmem").file("driver_override", "(null)\n");
    fixture.pci_driver("vfio-pci");
    let before = picture(&fixture);
    bind(&[bdf(EXPORTER)], &fixture.options()).unwrap();
    abandon(&fixture, &[cleared()]);
    let restored = restore(&fixture.options()).unwrap();
    let lines = restored.iter().map(|Restored { subject, outcome }| match outcome {
        Outcome::Restored { reverted } => format!("{subject}  {reverted}"),
        other => format!("{subject}  {other:?}"),
    });
    let lines: Vec<_> = lines.collect();
    assert_eq!(
        lines,
        [
            "0000:00:19.0  ACS redirect as before",
            "0000:01:00.0  bound to vfio-pci again, so that the kernel discards the cached path",
            "0000:01:00.0  bound to ivshmem again"
        ]
    );
    assert_eq!(picture(&fixture), before);
}

#[test]
fn restores_everything_else_if_a_route_cannot_be_restored() {
    let fixture = fixture();
    let net = format!("sys/devices/pci0000:00/{NIC}/net/eth0");
    let routes = "-4 10.8.0.0/16 via 0.0.0.0\n-4 10.9.0.0/16 via 192.168.101.254\n";
    fixture.file(&format!("{net}/routes"), routes);
    let refused = make(&fixture, &[identity()]).unwrap_err();
    assert!(refused.to_string().contains("10.8.0.0/16 via 0.0.0.0"), "{refused}");
    assert_eq!(fixture.read(&format!("{net}/routes")), "-4 10.9.0.0/16 via 192.168.101.254\n");
    assert_eq!(fixture.read("sys/class/infiniband/rxe0/parent"), "eth0\n");
    assert_eq!(fixture.read("sys/kernel/iommu_groups/9/type"), "DMA-FQ\n");
    assert_eq!(fixture.journaled(), [bdf(NIC)]);
}

#[test]
fn renames_an_interface_that_reappears_under_another_name() {
    let fixture = fixture();
    std::fs::rename(
        fixture.path(&format!("sys/devices/pci0000:00/{NIC}/net/eth0")),
        fixture.path(&format!("sys/devices/pci0000:00/{NIC}/net/port7")),
    )
    .unwrap();
    std::fs::remove_file(fixture.path("sys/class/net/eth0")).unwrap();
    let folder = fixture.path(&format!("sys/devices/pci0000:00/{NIC}/net/port7"));
    fixture.link("sys/class/net/port7", folder.to_str().unwrap());
    fixture.file("sys/class/infiniband/rxe0/parent", "port7\n");
    let before = picture(&fixture);
    make(&fixture, &[identity()]).unwrap().revert().unwrap();
    assert_eq!(picture(&fixture), before);
}

/// After a PCI remove and rescan, the kernel may give the number of the group to another group.
#[test]
fn leaves_a_group_with_a_reassigned_number_unchanged() {
    for old_format in [false, true] {
        let fixture = fixture();
        abandon(&fixture, &[identity()]);
        if old_format {
            forget_identities(&fixture);
        }
        fixture.leave_group(NIC, 9);
        fixture.leave_group(PORT, 9);
        fixture.function(NIC).group(12);
        fixture.function("0000:05:00.0").group(9).driver("nvme");
        let before = picture(&fixture);
        let restored = restore(&fixture.options()).unwrap();
        let Outcome::Failed { error: error @ Error::Replaced { kept: false, .. } } = &restored[0].outcome else {
            panic!("{restored:?}")
        };
        assert!(error.to_string().contains("and is 0000:05:00.0 now"), "{error}");
        assert_eq!(picture(&fixture), before);
        assert_eq!(fixture.journaled(), []);
    }
}

#[test]
fn keeps_the_change_of_a_group_that_a_function_joined() {
    let fixture = fixture();
    let before = picture(&fixture);
    abandon(&fixture, &[identity()]);
    fixture.function("0000:05:00.0").group(9).driver("nvme");
    let meanwhile = picture(&fixture);
    let restored = restore(&fixture.options()).unwrap();
    assert!(
        matches!(restored[0].outcome, Outcome::Failed { error: Error::Replaced { kept: true, .. } }),
        "{restored:?}"
    );
    assert_eq!(picture(&fixture), meanwhile);
    fixture.remove("0000:05:00.0", 9);
    assert!(restore(&fixture.options()).unwrap()[0].outcome.is_settled());
    fixture.remove_pci_driver("nvme");
    assert_eq!(picture(&fixture), before);
}

#[test]
fn leaves_the_register_of_a_replacement_port_unchanged() {
    let fixture = fixture();
    fixture.function(PORT).file("vendor", "0x8086\n").file("device", "0x2030\n");
    abandon(&fixture, &[cleared()]);
    fixture.function(PORT).file("device", "0x2031\n");
    let restored = restore(&fixture.options()).unwrap();
    assert!(
        matches!(restored[0].outcome, Outcome::Failed { error: Error::Replaced { kept: false, .. } }),
        "{restored:?}"
    );
    assert_eq!(control(&fixture), 0x11);
}

/// Removes the field that older versions did not write from the journal.
fn forget_identities(fixture: &Fixture) {
    let path = fixture.options().state_dir.join("journal.json");
    let mut journal: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    for entry in journal["entries"].as_array_mut().unwrap() {
        entry.as_object_mut().unwrap().remove("functions").unwrap();
    }
    std::fs::write(path, journal.to_string()).unwrap();
}

//! Changing the host so that a pair takes the path that was asked for, and changing it back.
//!
//! What has to be changed is [`peerpath_paths`]' to say; here it is done. All of it is looked at before any of it is
//! touched, and written down before it is done: an [`Arrangement`] puts everything back when it is dropped, `peerpath
//! restore` after a death of the process.

use std::io;
use std::path::Path;

use peerpath_paths::{Bdf, DomainType, HostChange};

use crate::changes::{
    Change, Entry, Journal, Lock, OwnerKind, StateDir, Subject,
    acs::{self, Acs},
    domain::{self, Domain},
    driver,
};
use crate::host_tree::{HostTree, names};
use crate::in_use::{InUse, UseKind, refuse_in_use, vfio_users};
use crate::{Error, OpenOptions, viability};

/// Changes of the host, in force until this is dropped, and nobody else's changes of what the pair's path depends on.
#[derive(Debug)]
pub struct Arrangement {
    host: HostTree,
    dir: StateDir,
    /// In the order in which they were made.
    entries: Vec<Entry>,
    done: Vec<String>,
    // Let go after everything is put back.
    _locks: Vec<Lock>,
}

impl Arrangement {
    /// Makes changes for a pair, all of them or none; with none to make, it only keeps others from changing the importer,
    /// its group and the functions on the `way`. Neither of the two may be open in this process.
    ///
    /// # Errors
    /// Another run changes one of those, or relies on one that is to be changed. Something that would have to go for them is in use, or could not be put back; nothing was touched then. Or the
    /// kernel refused; what had been done by then is undone, or the error says that it could not be.
    pub fn make(
        exporter: Bdf,
        importer: Bdf,
        changes: &[HostChange],
        way: &[Bdf],
        options: &OpenOptions,
    ) -> Result<Self, Error> {
        let host = &options.host;
        let dir = StateDir::open(&options.state_dir)?;
        if !changes.is_empty() {
            require_exportable(host, exporter)?;
        }
        // First the locks: what is there now must not be half of what another one does.
        let locks = lock(host, &dir, [exporter, importer], changes, way)?;
        let prepared = Prepared::all(exporter, importer, changes, options)?;
        let mut arrangement = Self { host: host.clone(), dir, entries: Vec::new(), done: Vec::new(), _locks: locks };
        match arrangement.change(exporter, importer, prepared) {
            Ok(()) => Ok(arrangement),
            Err(error) => Err(match arrangement.undo() {
                Ok(()) => error,
                Err(left) => Error::LeftChanged { error: Box::new(error), left: Box::new(left) },
            }),
        }
    }

    /// What was changed, a sentence each.
    pub fn done(&self) -> &[String] {
        &self.done
    }

    /// Puts everything back now, and says whether that went well.
    ///
    /// # Errors
    /// The first thing that could not be put back; it stays in the journal for `restore`.
    pub fn put_back(mut self) -> Result<(), Error> {
        self.undo()
    }

    fn journal(&self) -> Journal {
        Journal::new(self.dir.clone())
    }

    fn change(&mut self, exporter: Bdf, importer: Bdf, prepared: Prepared) -> Result<(), Error> {
        for (domain, to) in prepared.domains {
            self.switch(importer, domain, to)?;
        }
        if prepared.acs.is_empty() { Ok(()) } else { self.change_acs(exporter, &prepared.acs) }
    }

    fn switch(&mut self, importer: Bdf, domain: Domain, to: DomainType) -> Result<(), Error> {
        let before = domain.kind.clone();
        let change = Change::Domain(domain.clone());
        self.entries.push(self.journal().begin(&self.host, importer, change, OwnerKind::Run)?);
        let now = domain::switch(&self.host, &domain, to.sysfs_names())?;
        self.done.push(format!("IOMMU group {} switched from {before} to {now}", domain.group));
        Ok(())
    }

    fn change_acs(&mut self, exporter: Bdf, changes: &[AcsChange]) -> Result<(), Error> {
        let (host, journal) = (self.host.clone(), self.journal());
        // The kernel keeps its answer for a pair until the exporter leaves its driver: one that has a VFIO driver already has
        // to leave it, now and when the bits are as before.
        let bound = match host.driver(exporter)? {
            Some(driver) => Some((driver, self.lock_closed(exporter)?)),
            None => None,
        };
        if let Some((driver, _)) = &bound {
            let change = Change::Rebound { driver: driver.clone() };
            self.entries.push(journal.begin(&host, exporter, change, OwnerKind::Run)?);
        }
        for change in changes {
            let AcsChange { bdf, offset, bits, set, .. } = *change;
            let before = Acs::before(&host, bdf, offset, bits)?;
            self.entries.push(journal.begin(&host, bdf, Change::Acs(before), OwnerKind::Run)?);
            acs::change(&host, bdf, offset, bits, set)?;
            self.done.push(change.words.clone());
        }
        if let Some((driver, _lock)) = &bound {
            driver::rebind(&host, exporter, driver)?;
        }
        Ok(())
    }

    /// The lock of the exporter, once nobody has it open.
    fn lock_closed(&self, exporter: Bdf) -> Result<Lock, Error> {
        let lock = Lock::take(&self.dir, Subject::Function(exporter))?;
        require_closed(&self.host, exporter)?;
        Ok(lock)
    }

    fn undo(&mut self) -> Result<(), Error> {
        let journal = self.journal();
        let mut outcome = Ok(());
        while let Some(entry) = self.entries.pop() {
            let undone = match entry.change {
                Change::Rebound { .. } => self.lock_closed(entry.bdf).map(Some),
                _ => Ok(None),
            }
            .and_then(|_lock| journal.undo(&self.host, &entry));
            if let (Err(error), Ok(())) = (undone, &outcome) {
                outcome = Err(error);
            }
        }
        outcome
    }
}

impl Drop for Arrangement {
    fn drop(&mut self) {
        // What cannot be put back stays in the journal, and `restore` finds it.
        let _ = self.undo();
    }
}

/// Bits of one ACS control word.
struct AcsChange {
    bdf: Bdf,
    offset: u16,
    bits: u16,
    set: bool,
    words: String,
}

/// Changes with what is there before them.
#[derive(Default)]
struct Prepared {
    domains: Vec<(Domain, DomainType)>,
    acs: Vec<AcsChange>,
}

impl Prepared {
    /// Looks at everything that the changes touch.
    fn all(exporter: Bdf, importer: Bdf, changes: &[HostChange], options: &OpenOptions) -> Result<Self, Error> {
        let host = &options.host;
        let mut prepared = Self::default();
        for change in changes {
            match *change {
                HostChange::Domain { group, to } => {
                    for name in names(&host.path(format!("sys/kernel/iommu_groups/{group}/devices")))? {
                        if let Ok(bdf) = name.parse() {
                            require_closed(host, bdf)?;
                        }
                    }
                    for (bdf, _) in domain::in_the_way(host, group)? {
                        refuse_in_use(host, bdf, options.force_in_use)?;
                    }
                    prepared.domains.push((Domain::before(host, group)?, to));
                }
                HostChange::Acs { bdf, offset, bits, set } => {
                    Acs::before(host, bdf, offset, bits.0)?;
                    if !set {
                        require_trusted_below(host, bdf, &[exporter, importer])?;
                    }
                    prepared.acs.push(AcsChange { bdf, offset, bits: bits.0, set, words: change.to_string() });
                }
            }
        }
        Ok(prepared)
    }
}

/// The locks of everything that changes touch, and shared ones of what else the path depends on. The exporter's own is
/// taken by who opens it.
fn lock(
    host: &HostTree,
    dir: &StateDir,
    [exporter, importer]: [Bdf; 2],
    changes: &[HostChange],
    way: &[Bdf],
) -> Result<Vec<Lock>, Error> {
    let (mut subjects, mut locks) = (vec![Subject::Function(exporter)], Vec::new());
    let mut add = |subject, lock: fn(&StateDir, Subject) -> Result<Lock, Error>| {
        if !subjects.contains(&subject) {
            locks.push(lock(dir, subject)?);
            subjects.push(subject);
        }
        Ok::<_, Error>(())
    };
    for change in changes {
        match *change {
            HostChange::Domain { group, .. } => {
                add(Subject::Group(group), Lock::take)?;
                for (bdf, _) in domain::in_the_way(host, group)? {
                    add(Subject::Function(bdf), Lock::take)?;
                }
            }
            HostChange::Acs { bdf, .. } => add(Subject::Function(bdf), Lock::take)?,
        }
    }
    for bdf in [&[importer], way].concat() {
        add(Subject::Function(bdf), Lock::share)?;
    }
    if let Some(group) = host.iommu_group(importer)? {
        add(Subject::Group(group), Lock::share)?;
    }
    Ok(locks)
}

/// Nothing is arranged for an exporter that cannot be opened then.
fn require_exportable(host: &HostTree, exporter: Bdf) -> Result<(), Error> {
    let group = viability::require_group(host, exporter)?;
    if !viability::has_vfio_driver(host, exporter)?
        && let Some(driver) = host.driver(exporter)?
    {
        return Err(Error::NotVfioDriver { bdf: exporter, driver: Some(driver) });
    }
    match viability::offenders(host, group, &[])? {
        offenders if offenders.is_empty() => Ok(()),
        offenders => Err(Error::GroupNotViable { bdf: exporter, group, offenders }),
    }
}

fn require_closed(host: &HostTree, bdf: Bdf) -> Result<(), Error> {
    match vfio_users(host, bdf)? {
        pids if pids.is_empty() => Ok(()),
        pids => Err(Error::Owned { bdf, pids, source: io::Error::from_raw_os_error(libc::EBUSY) }),
    }
}

/// The redirect keeps functions below a port from reaching others around the IOMMU. Whoever has one of them open through
/// VFIO, a guest perhaps, was promised that.
fn require_trusted_below(host: &HostTree, port: Bdf, ours: &[Bdf]) -> Result<(), Error> {
    let mut found = Vec::new();
    functions_below(&host.function_real(port)?, &mut found)?;
    for bdf in found.into_iter().filter(|bdf| !ours.contains(bdf)) {
        let pids = vfio_users(host, bdf)?;
        if !pids.is_empty() {
            let detail =
                format!("processes {pids:?} have it open through VFIO, and the ACS redirect of {port} confines it");
            let uses = vec![InUse { kind: UseKind::Process, detail, forceable: false }];
            return Err(Error::InUse { bdf, uses, forced: false });
        }
    }
    Ok(())
}

fn functions_below(folder: &Path, found: &mut Vec<Bdf>) -> Result<(), Error> {
    for name in names(folder)? {
        if let Ok(bdf) = name.parse() {
            found.push(bdf);
            functions_below(&folder.join(name), found)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bind::{self, Outcome, bind, restore};
    use crate::testing::{Fixture, picture};
    use peerpath_paths::AcsControl;

    const NIC: &str = "0000:02:00.0";
    const PORT: &str = "0000:00:19.0";
    const EXPORTER: &str = "0000:01:00.0";

    /// A NIC with an interface that is up, addresses, a route and an RDMA device; a port with ACS; an exporter that vfio-pci
    /// has.
    fn fixture() -> Fixture {
        let fixture = Fixture::new();
        fixture.pci_driver("pcieport");
        fixture.function(EXPORTER).group(1).driver("vfio-pci").file("driver_override", "vfio-pci\n");
        fixture.function(PORT).group(9).driver("pcieport").file("class", "0x060400\n").acs(0x1d);
        fixture.function(NIC).group(9).driver("e1000e").file("class", "0x020000\n");
        fixture.file("sys/kernel/iommu_groups/9/type", "DMA-FQ\n");
        let net = format!("sys/devices/pci0000:00/{NIC}/net/eth0");
        fixture.interface(&net, "0x1003");
        for (file, text) in [
            ("dev_port", "0\n"),
            ("mtu", "9000\n"),
            ("address", "52:54:00:00:00:02\n"),
            ("addresses", "192.168.101.1/24 scope global\n10.0.0.1/8 scope global\n"),
            ("routes", "-4 10.9.0.0/16 via 192.168.101.254\n"),
        ] {
            fixture.file(&format!("{net}/{file}"), text);
        }
        fixture.file("sys/class/infiniband/rxe0/parent", "eth0\n");
        fixture.file("sys/class/infiniband/rxe0/ports/1/state", "4: ACTIVE\n");
        fixture
    }

    fn bdf(text: &str) -> Bdf {
        text.parse().unwrap()
    }

    fn forced(fixture: &Fixture) -> OpenOptions {
        OpenOptions { force_in_use: true, ..fixture.options() }
    }

    fn identity() -> HostChange {
        HostChange::Domain { group: 9, to: DomainType::Identity }
    }

    fn cleared() -> HostChange {
        HostChange::Acs { bdf: bdf(PORT), offset: 0x106, bits: AcsControl(0x0c), set: false }
    }

    fn make(fixture: &Fixture, changes: &[HostChange]) -> Result<Arrangement, Error> {
        Arrangement::make(bdf(EXPORTER), bdf(NIC), changes, &[bdf(EXPORTER), bdf(PORT), bdf(NIC)], &forced(fixture))
    }

    /// As if the process had died with the changes in force.
    fn abandon(fixture: &Fixture, changes: &[HostChange]) {
        make(fixture, changes).unwrap().entries.clear();
    }

    fn control(fixture: &Fixture) -> u16 {
        fixture.host().read_config(bdf(PORT), 0x106).unwrap()
    }

    #[test]
    fn both_changes_are_made_and_put_back() {
        let fixture = fixture();
        let before = picture(&fixture);
        let arrangement = make(&fixture, &[identity(), cleared()]).unwrap();
        assert_eq!(
            arrangement.done(),
            ["IOMMU group 9 switched from DMA-FQ to identity", "ACS redirect cleared on 0000:00:19.0 (RR CR)"]
        );
        assert_eq!(fixture.read("sys/kernel/iommu_groups/9/type"), "identity\n");
        assert_eq!(control(&fixture), 0x11);
        // The NIC is back with everything on it, to be used meanwhile.
        assert_eq!(fixture.read("sys/class/net/eth0/flags"), "0x1003\n");
        assert_eq!(fixture.read("sys/class/infiniband/rxe0/parent"), "eth0\n");
        assert_eq!(fixture.journaled().len(), 3);
        arrangement.put_back().unwrap();
        assert_eq!(picture(&fixture), before);
        assert_eq!(fixture.journaled(), []);
    }

    #[test]
    fn what_is_in_use_is_taken_by_force_only_and_nothing_is_touched_without() {
        let fixture = fixture();
        let before = picture(&fixture);
        let refused = Arrangement::make(bdf(EXPORTER), bdf(NIC), &[identity()], &[], &fixture.options());
        assert!(matches!(refused, Err(Error::InUse { forced: false, .. })), "{refused:?}");
        fixture.file("proc/net/route", "header\neth0 00000000 0 0003 0 0 0 00000000 0 0 0\n");
        assert!(matches!(make(&fixture, &[identity()]), Err(Error::InUse { forced: true, .. })));
        std::fs::remove_file(fixture.path("proc/net/route")).unwrap();
        fixture.link("sys/class/net/eth0/upper_bond0", "/anywhere");
        assert!(matches!(make(&fixture, &[identity()]), Err(Error::CannotPutBack { .. })));
        std::fs::remove_file(fixture.path("sys/class/net/eth0/upper_bond0")).unwrap();
        assert_eq!(picture(&fixture), before);
        assert_eq!(fixture.journaled(), []);
    }

    #[test]
    fn a_function_without_anything_in_use_needs_no_force() {
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
    fn what_another_run_relies_on_is_not_changed() {
        let fixture = fixture();
        let before = picture(&fixture);
        // As if other processes held them.
        let foreign = || {
            for lock in [&format!("{NIC}.lock"), &format!("{PORT}.lock"), "group-9.lock"] {
                std::fs::write(fixture.options().state_dir.join(lock), "4242").unwrap();
            }
        };
        let relying = [make(&fixture, &[]).unwrap(), make(&fixture, &[]).unwrap()];
        for (change, subject) in [(identity(), Subject::Group(9)), (cleared(), Subject::Function(bdf(PORT)))] {
            foreign();
            let refused = make(&fixture, &[change]);
            assert!(
                matches!(&refused, Err(Error::Taken { subject: held, pid: Some(4242) }) if *held == subject),
                "{refused:?}"
            );
        }
        assert_eq!(picture(&fixture), before);
        // The exporter is for who opens it to lock.
        drop(bind::Hold::take(bdf(EXPORTER), &fixture.options()).unwrap());
        drop(relying);
        let changed = make(&fixture, &[cleared()]).unwrap();
        foreign();
        assert!(matches!(make(&fixture, &[]), Err(Error::Taken { pid: Some(4242), .. })));
        changed.put_back().unwrap();
        assert_eq!(picture(&fixture), before);
    }

    #[test]
    fn what_two_changes_touch_is_locked_once() {
        let fixture = fixture();
        fixture.function(NIC).acs(0x1d);
        let own = HostChange::Acs { bdf: bdf(NIC), offset: 0x106, bits: AcsControl(0x0c), set: false };
        make(&fixture, &[identity(), own]).unwrap().put_back().unwrap();
    }

    #[test]
    fn an_exporter_that_is_open_keeps_its_path_and_its_neighbours_their_walls() {
        let fixture = fixture();
        let before = picture(&fixture);
        fixture.link("proc/4242/fd/7", "/dev/vfio/1");
        assert!(matches!(make(&fixture, &[cleared()]), Err(Error::Owned { pids, .. }) if pids == [4242]));
        // A guest has another function below the port.
        let neighbour = format!("sys/devices/pci0000:00/{PORT}/0000:05:00.0");
        fixture.file(&format!("{neighbour}/vendor"), "0x1\n");
        fixture.link("sys/bus/pci/devices/0000:05:00.0", fixture.path(&neighbour).to_str().unwrap());
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
    fn a_refused_step_undoes_all_of_it() {
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

    /// The journal is written first, so whatever the moment of death, `restore` brings back the first state.
    #[test]
    fn a_death_at_any_step_can_be_restored() {
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
    fn what_a_refused_step_leaves_changed_is_told() {
        use peerpath_paths::{Explained as _, Severity};
        let fixture = fixture();
        let before = picture(&fixture);
        fixture.die_after(10);
        let refused = make(&fixture, &[identity(), cleared()]).unwrap_err();
        assert!(matches!(&refused, Error::LeftChanged { .. }), "{refused:?}");
        assert_eq!(refused.severity(), Severity::Failed);
        assert!(refused.explanation().remedy.contains("peerpath restore"));
        assert_eq!(fixture.journaled(), [bdf(NIC)]);
        fixture.revive();
        assert!(restore(&fixture.options()).unwrap().iter().all(|one| one.outcome.is_settled()));
        assert_eq!(picture(&fixture), before);
    }

    #[test]
    fn what_came_into_use_meanwhile_is_not_taken_to_put_back() {
        let fixture = fixture();
        let before = picture(&fixture);
        let default_route = || fixture.file("proc/net/route", "header\neth0 00000000 0 0003 0 0 0 00000000 0 0 0\n");
        let arrangement = make(&fixture, &[identity()]).unwrap();
        default_route();
        let meanwhile = picture(&fixture);
        assert!(matches!(arrangement.put_back(), Err(Error::InUse { forced: true, .. })));
        // As a later run of `restore` finds it.
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
    fn a_death_in_the_middle_of_restoring_can_be_restored() {
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
    fn what_was_bound_before_goes_back_after_the_ports() {
        let fixture = fixture();
        fixture.function(EXPORTER).driver("ivshmem").file("driver_override", "(null)\n");
        fixture.pci_driver("vfio-pci");
        let before = picture(&fixture);
        bind(&[bdf(EXPORTER)], &fixture.options()).unwrap();
        abandon(&fixture, &[cleared()]);
        let restored = restore(&fixture.options()).unwrap();
        let words = restored.iter().map(|bind::Restored { subject, outcome }| match outcome {
            Outcome::GivenBack { put_back } => format!("{subject}  {put_back}"),
            other => format!("{subject}  {other:?}"),
        });
        let words: Vec<_> = words.collect();
        assert_eq!(
            words,
            [
                "0000:00:19.0  ACS redirect as before",
                "0000:01:00.0  given to vfio-pci anew, so that the kernel forgets the path it chose",
                "0000:01:00.0  back to ivshmem"
            ]
        );
        assert_eq!(picture(&fixture), before);
    }

    #[test]
    fn a_route_that_cannot_be_made_again_keeps_nothing_else_away() {
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
    fn an_interface_that_comes_back_under_another_name_gets_its_own() {
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
        make(&fixture, &[identity()]).unwrap().put_back().unwrap();
        assert_eq!(picture(&fixture), before);
    }
}

//! Binds functions to vfio-pci. `restore` reverts the bindings.

use peerpath_paths::Bdf;

use crate::changes::{Change, Entry, Journal, Lock, OwnerKind, StateDir, Subject, Taken, driver};
use crate::in_use::refuse_in_use;
use crate::{Error, Options};

/// Result of binding one function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bound {
    /// Address of the function.
    pub bdf: Bdf,
    /// Previous driver, which [`crate::restore`] binds again; `None` if there was none.
    pub from_driver: Option<String>,
    /// Whether a VFIO driver was already bound, so that nothing changed.
    pub already: bool,
}

/// Binds all functions to vfio-pci, or none. [`crate::restore`] reverts the bindings.
///
/// # Errors
/// A function does not exist, is a bridge, has no IOMMU group, is locked by another run, is in use, or shares its group with a
/// function whose driver VFIO does not tolerate; vfio-pci is not loaded; or the kernel refuses the binding. If the functions
/// bound before the failure cannot be restored, the error is [`Error::LeftChanged`].
pub fn bind(functions: &[Bdf], options: &Options) -> Result<Vec<Bound>, Error> {
    let host = &options.host;
    let mut functions = functions.to_vec();
    functions.sort();
    functions.dedup();
    for &bdf in &functions {
        let group = host.tree().vfio_group(bdf)?;
        host.tree().require_viable(bdf, group, &functions)?;
    }
    let dir = StateDir::open(&options.state_dir)?;
    let lock = |&bdf: &Bdf| Lock::acquire(&dir, Subject::Function(bdf));
    let locks = functions.iter().map(lock).collect::<Result<Vec<_>, _>>()?;
    for &bdf in &functions {
        if !host.tree().has_vfio_driver(bdf) {
            driver::require_vfio_pci(host)?;
            refuse_in_use(host, bdf, options.force_in_use)?;
        }
    }
    // If the state of one function cannot be restored, none is changed.
    let before = |bdf| Ok((bdf, Taken::before(host, bdf)?));
    let functions = functions.into_iter().map(before).collect::<Result<Vec<_>, Error>>()?;
    let journal = Journal::new(dir);
    let mut recorded = Vec::new();
    let mut bound = Vec::new();
    for (bdf, before) in functions {
        match bind_one(bdf, before, options, &journal, &mut recorded) {
            Ok(one) => bound.push(one),
            Err(error) => {
                let mut outcome = Ok(());
                for entry in recorded.iter().rev() {
                    outcome = outcome.and(journal.revert(host, entry).map(drop));
                }
                return Err(match outcome {
                    Ok(()) => error,
                    Err(left) => Error::LeftChanged { error: Box::new(error), left: Box::new(left) },
                });
            }
        }
    }
    drop(locks);
    Ok(bound)
}

fn bind_one(
    bdf: Bdf,
    before: Taken,
    options: &Options,
    journal: &Journal,
    recorded: &mut Vec<Entry>,
) -> Result<Bound, Error> {
    let host = &options.host;
    if host.tree().has_vfio_driver(bdf) {
        // A killed run may have bound the function temporarily. Take over its journal entry, so that the function stays bound
        // until `restore`.
        journal.adopt(host, bdf, Change::Driver(before), OwnerKind::Bind)?;
        return Ok(Bound { bdf, from_driver: None, already: true });
    }
    let from_driver = host.driver(bdf)?;
    recorded.push(journal.begin(host, bdf, Change::Driver(before.clone()), OwnerKind::Bind)?);
    before.bind_to_vfio_pci(host, bdf)?;
    Ok(Bound { bdf, from_driver, already: false })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Fixture, picture};
    use crate::{Outcome, restore};
    use peerpath_paths::GroupError;

    fn fixture() -> (Fixture, [Bdf; 2]) {
        let fixture = Fixture::new();
        for driver in ["vfio-pci", "e1000e", "ivshmem"] {
            fixture.pci_driver(driver);
        }
        let first = fixture.function("0000:03:00.0").group(3).driver("e1000e").bdf();
        let second = fixture.function("0000:04:00.0").group(4).driver("ivshmem").bdf();
        (fixture, [first, second])
    }

    fn drivers(fixture: &Fixture, functions: &[Bdf]) -> Vec<Option<String>> {
        functions.iter().map(|&bdf| fixture.host().driver(bdf).unwrap()).collect()
    }

    fn some(names: [&str; 2]) -> Vec<Option<String>> {
        names.map(|name| Some(name.to_owned())).into()
    }

    #[test]
    fn binds_and_restores() {
        let (fixture, functions) = fixture();
        let options = fixture.options();
        let bound = bind(&functions, &options).unwrap();
        assert_eq!(bound[0], Bound { bdf: functions[0], from_driver: Some("e1000e".to_owned()), already: false });
        assert_eq!(drivers(&fixture, &functions), some(["vfio-pci", "vfio-pci"]));
        let again = bind(&functions, &options).unwrap();
        assert!(again.iter().all(|bound| bound.already));
        let restored = restore(&options).unwrap();
        assert!(restored.iter().all(|one| matches!(one.outcome, Outcome::Restored { .. })), "{restored:?}");
        assert_eq!(drivers(&fixture, &functions), some(["e1000e", "ivshmem"]));
        assert_eq!(fixture.journaled(), []);
        assert!(restore(&options).unwrap().is_empty());
    }

    #[test]
    fn binds_all_functions_or_none() {
        for step in 0..6 {
            let (fixture, functions) = fixture();
            fixture.fail_once_after(step);
            bind(&functions, &fixture.options()).unwrap_err();
            assert_eq!(drivers(&fixture, &functions), some(["e1000e", "ivshmem"]), "failing at step {step}");
            assert_eq!(fixture.journaled(), []);
        }
    }

    #[test]
    fn reports_bindings_that_cannot_be_reverted() {
        let (fixture, functions) = fixture();
        fixture.die_after(3);
        let refused = bind(&functions, &fixture.options()).unwrap_err();
        assert!(matches!(refused, Error::LeftChanged { .. }), "{refused:?}");
        fixture.revive();
        assert!(restore(&fixture.options()).unwrap().iter().all(|one| one.outcome.is_settled()));
        assert_eq!(drivers(&fixture, &functions), some(["e1000e", "ivshmem"]));
    }

    /// The journal is written before each change, so `restore` recreates the initial state whenever the process dies.
    #[test]
    fn restores_after_a_death_at_any_step() {
        for step in 0..=6 {
            let (fixture, functions) = fixture();
            fixture.die_after(step);
            let _ = bind(&functions, &fixture.options());
            fixture.revive();
            restore(&fixture.options()).unwrap();
            assert_eq!(drivers(&fixture, &functions), some(["e1000e", "ivshmem"]), "killed after step {step}");
            assert_eq!(fixture.read("sys/bus/pci/devices/0000:03:00.0/driver_override"), "(null)\n");
            assert_eq!(fixture.journaled(), []);
        }
    }

    #[test]
    fn restores_after_a_death_while_restoring() {
        for step in 0..=6 {
            let (fixture, functions) = fixture();
            bind(&functions, &fixture.options()).unwrap();
            fixture.die_after(step);
            let _ = restore(&fixture.options());
            fixture.revive();
            restore(&fixture.options()).unwrap();
            assert_eq!(drivers(&fixture, &functions), some(["e1000e", "ivshmem"]), "killed after step {step}");
        }
    }

    #[test]
    fn restores_the_network_configuration() {
        let (fixture, [_, second]) = fixture();
        let nic = fixture.nic("0000:02:00.0", 2);
        let options = Options { force_in_use: true, ..fixture.options() };
        let before = picture(&fixture);
        bind(&[nic, second], &options).unwrap();
        assert!(!fixture.path("sys/class/net/eth0").exists() && !fixture.path("sys/class/infiniband/rxe0").exists());
        let restored = restore(&options).unwrap();
        assert!(restored.iter().all(|one| one.outcome.is_settled()), "{restored:?}");
        assert_eq!(picture(&fixture), before);
        assert_eq!(fixture.journaled(), []);
    }

    #[test]
    fn logs_every_change_of_the_network_configuration() {
        static LOG: Captured = Captured(std::sync::Mutex::new(Vec::new()));
        struct Captured(std::sync::Mutex<Vec<(std::thread::ThreadId, String)>>);
        impl log::Log for Captured {
            fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
                metadata.level() <= log::Level::Info
            }
            fn log(&self, record: &log::Record<'_>) {
                if self.enabled(record.metadata()) {
                    self.0.lock().unwrap().push((std::thread::current().id(), record.args().to_string()));
                }
            }
            fn flush(&self) {}
        }
        log::set_logger(&LOG).unwrap();
        log::set_max_level(log::LevelFilter::Info);
        let (fixture, _) = fixture();
        let nic = fixture.nic("0000:02:00.0", 2);
        let options = Options { force_in_use: true, ..fixture.options() };
        bind(&[nic], &options).unwrap();
        restore(&options).unwrap();
        let me = std::thread::current().id();
        let lines: Vec<_> =
            LOG.0.lock().unwrap().iter().filter(|(id, _)| *id == me).map(|(_, line)| line.clone()).collect();
        for part in ["address replace", "route replace", "run rdma link add rxe0"] {
            assert!(lines.iter().any(|line| line.contains(part)), "{part}: {lines:#?}");
        }
        assert!(!lines.iter().any(|line| line.contains(" show ")), "{lines:#?}");
    }

    #[test]
    fn restores_the_network_configuration_after_a_kill_at_any_step() {
        let mut survived = false;
        for step in 0.. {
            if survived {
                break;
            }
            let (fixture, _) = fixture();
            let nic = fixture.nic("0000:02:00.0", 2);
            let options = Options { force_in_use: true, ..fixture.options() };
            let before = picture(&fixture);
            fixture.die_after(step);
            survived = bind(&[nic], &options).is_ok() && restore(&options).unwrap()[0].outcome.is_settled();
            fixture.revive();
            let restored = restore(&options).unwrap();
            assert!(restored.iter().all(|one| one.outcome.is_settled()), "{step}: {restored:?}");
            assert_eq!(picture(&fixture), before, "killed after step {step}");
        }
    }

    #[test]
    fn changes_nothing_that_it_could_not_restore() {
        let (fixture, [_, second]) = fixture();
        let nic = fixture.nic("0000:02:00.0", 2);
        fixture.link("sys/class/net/eth0/upper_bond0", "/anywhere");
        let before = picture(&fixture);
        let options = Options { force_in_use: true, ..fixture.options() };
        assert!(matches!(bind(&[second, nic], &options), Err(Error::NotRestorable { .. })));
        assert_eq!(picture(&fixture), before);
        assert_eq!(fixture.journaled(), []);
    }

    #[test]
    fn requires_the_whole_group() {
        let (fixture, [first, second]) = fixture();
        fixture.function("0000:04:00.0").group(3);
        let error = bind(&[first], &fixture.options()).unwrap_err();
        assert!(
            matches!(&error, Error::Group(GroupError::NotViable { offenders, .. }) if offenders[0].0 == "0000:04:00.0"),
            "{error}"
        );
        assert_eq!(fixture.journaled(), []);
        bind(&[first, second], &fixture.options()).unwrap();
    }

    #[test]
    fn restores_the_driver_override() {
        let (fixture, [first, _]) = fixture();
        fixture.function("0000:03:00.0").file("driver_override", "e1000e\n");
        bind(&[first], &fixture.options()).unwrap();
        restore(&fixture.options()).unwrap();
        assert_eq!(fixture.read("sys/bus/pci/devices/0000:03:00.0/driver_override"), "e1000e\n");
    }
}

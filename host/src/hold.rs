//! What a run holds of a function while it works with it.

use peerpath_paths::Bdf;

use crate::changes::{Entry, Journal, Lock, OwnerKind, StateDir, Subject, driver};
use crate::host_tree::HostTree;
use crate::in_use::{refuse_in_use, vfio_users};
use crate::{Error, OpenOptions, viability};

/// The lock of a function, and its temporary binding where it had no driver. Dropping it gives the function back.
#[derive(Debug)]
pub(crate) struct Hold {
    // Given back before the lock is let go.
    _borrowed: Option<Borrowed>,
    _lock: Lock,
}

impl Hold {
    /// What would keep [`Hold::take`] from taking a function, its lock aside; nothing is changed.
    pub(crate) fn probe(bdf: Bdf, options: &OpenOptions) -> Result<(), Error> {
        let host = &options.host;
        if viability::has_vfio_driver(host, bdf)? {
            let pids = vfio_users(host, bdf)?;
            let source = std::io::ErrorKind::ResourceBusy.into();
            return if pids.is_empty() { Ok(()) } else { Err(Error::Owned { bdf, pids, source }) };
        }
        if let Some(driver) = host.driver(bdf)? {
            return Err(Error::NotVfioDriver { bdf, driver: Some(driver) });
        }
        driver::require_vfio_pci(host)?;
        refuse_in_use(host, bdf, options.force_in_use)
    }

    /// Takes a function that VFIO has already, or one without a driver for as long as this lives. A driver of the kernel
    /// is never sent away: that is for `peerpath bind`, which says what it takes.
    pub(crate) fn take(bdf: Bdf, options: &OpenOptions) -> Result<Self, Error> {
        let host = &options.host;
        let dir = StateDir::open(&options.state_dir)?;
        let lock = Lock::take(&dir, Subject::Function(bdf))?;
        let borrowed = if viability::has_vfio_driver(host, bdf)? {
            None
        } else if let Some(driver) = host.driver(bdf)? {
            return Err(Error::NotVfioDriver { bdf, driver: Some(driver) });
        } else {
            refuse_in_use(host, bdf, options.force_in_use)?;
            Some(Borrowed::take(host, bdf, Journal::new(dir))?)
        };
        Ok(Self { _borrowed: borrowed, _lock: lock })
    }

    #[cfg(test)]
    fn is_temporary(&self) -> bool {
        self._borrowed.is_some()
    }
}

/// A function without a driver, given to vfio-pci until dropped.
#[derive(Debug)]
struct Borrowed {
    host: HostTree,
    entry: Entry,
    journal: Journal,
}

impl Borrowed {
    fn take(host: &HostTree, bdf: Bdf, journal: Journal) -> Result<Self, Error> {
        driver::require_vfio_pci(host)?;
        let entry = journal.begin(host, bdf, driver::state(host, bdf)?, OwnerKind::Run)?;
        // From here on dropping it undoes what was done.
        let borrowed = Self { host: host.clone(), entry, journal };
        driver::take(host, bdf)?;
        Ok(borrowed)
    }
}

impl Drop for Borrowed {
    fn drop(&mut self) {
        // On failure the entry stays, and `restore` finds it.
        let _ = self.journal.undo(&self.host, &self.entry);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Fixture;

    fn fixture() -> (Fixture, Bdf) {
        let fixture = Fixture::new();
        fixture.pci_driver("vfio-pci");
        fixture.pci_driver("nvme");
        let bdf = fixture.function("0000:03:00.0").group(3).bdf();
        (fixture, bdf)
    }

    #[test]
    fn borrows_a_function_without_a_driver() {
        let (fixture, bdf) = fixture();
        let options = fixture.options();
        let hold = Hold::take(bdf, &options).unwrap();
        assert!(hold.is_temporary());
        assert_eq!(options.host.driver(bdf).unwrap().as_deref(), Some("vfio-pci"));
        assert_eq!(fixture.journaled(), [bdf]);
        drop(hold);
        assert_eq!(options.host.driver(bdf).unwrap(), None);
        assert_eq!(fixture.read("sys/bus/pci/devices/0000:03:00.0/driver_override"), "(null)\n");
        assert_eq!(fixture.journaled(), []);
    }

    #[test]
    fn a_bound_function_is_only_locked() {
        let (fixture, bdf) = fixture();
        fixture.function("0000:03:00.0").driver("vfio-pci");
        let hold = Hold::take(bdf, &fixture.options()).unwrap();
        assert!(!hold.is_temporary());
        assert_eq!(fixture.journaled(), []);
        drop(hold);
        assert_eq!(fixture.host().driver(bdf).unwrap().as_deref(), Some("vfio-pci"));
    }

    #[test]
    fn another_driver_is_not_sent_away() {
        let (fixture, bdf) = fixture();
        fixture.function("0000:03:00.0").driver("nvme");
        assert!(matches!(
            Hold::take(bdf, &fixture.options()),
            Err(Error::NotVfioDriver { driver: Some(driver), .. }) if driver == "nvme"
        ));
    }

    #[test]
    fn without_vfio_pci_nothing_is_touched() {
        let fixture = Fixture::new();
        let bdf = fixture.function("0000:03:00.0").group(3).bdf();
        assert!(matches!(Hold::take(bdf, &fixture.options()), Err(Error::VfioPciMissing)));
        assert_eq!(fixture.journaled(), []);
    }

    #[test]
    fn a_refused_step_is_undone() {
        for step in 0..2 {
            let (fixture, bdf) = fixture();
            let options = fixture.options();
            fixture.fail_once_after(step);
            assert!(matches!(Hold::take(bdf, &options), Err(Error::Bind { .. })), "{step}");
            assert_eq!(options.host.driver(bdf).unwrap(), None);
            assert_eq!(fixture.read("sys/bus/pci/devices/0000:03:00.0/driver_override"), "(null)\n");
            assert_eq!(fixture.journaled(), []);
        }
    }
}

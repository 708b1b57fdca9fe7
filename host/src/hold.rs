//! Reserves a function while a process uses it.

use peerpath_paths::Bdf;

use crate::changes::{Change, Entry, Journal, Lock, OwnerKind, StateDir, Subject, Taken, driver};
use crate::host_tree::HostTree;
use crate::in_use::refuse_in_use;
use crate::{Error, Options};

/// The lock of a function, and a temporary binding to vfio-pci if the function had no driver. Dropping it restores the function.
#[derive(Debug)]
pub struct Hold {
    // The binding is dropped first, so that it is reverted under the lock.
    _binding: Option<TemporaryBinding>,
    _lock: Lock,
}

impl Hold {
    /// Checks whether [`Hold::acquire`] would succeed, except for its lock. Changes nothing.
    ///
    /// # Errors
    /// Another program has the function open through VFIO, the open files of a process cannot be read, or [`Hold::acquire`] would
    /// fail.
    pub fn probe(bdf: Bdf, options: &Options) -> Result<(), Error> {
        let host = &options.host;
        host.tree().vfio_group(bdf)?;
        if host.tree().has_vfio_driver(bdf) {
            let pids = host.vfio_users(bdf)?;
            return if pids.is_empty() { Ok(()) } else { Err(Error::OpenElsewhere { bdf, pids }) };
        }
        if let Some(driver) = host.driver(bdf)? {
            return Err(Error::NotVfioDriver { bdf, driver });
        }
        driver::require_vfio_pci(host)?;
        refuse_in_use(host, bdf, options.force_in_use)
    }

    /// Locks a function, and binds it to vfio-pci if it has no driver. Never unbinds a kernel driver: only [`crate::bind()`],
    /// which the user requests explicitly, may unbind one.
    ///
    /// # Errors
    /// Another run has locked the function, a kernel driver is bound to it, it is in use, vfio-pci is not loaded, or the kernel
    /// refuses the binding.
    pub fn acquire(bdf: Bdf, options: &Options) -> Result<Self, Error> {
        let host = &options.host;
        host.tree().vfio_group(bdf)?;
        let dir = StateDir::open(&options.state_dir)?;
        let lock = Lock::acquire(&dir, Subject::Function(bdf))?;
        let binding = if host.tree().has_vfio_driver(bdf) {
            None
        } else if let Some(driver) = host.driver(bdf)? {
            return Err(Error::NotVfioDriver { bdf, driver });
        } else {
            refuse_in_use(host, bdf, options.force_in_use)?;
            Some(TemporaryBinding::new(host, bdf, Journal::new(dir))?)
        };
        Ok(Self { _binding: binding, _lock: lock })
    }

    #[cfg(test)]
    fn is_temporary(&self) -> bool {
        self._binding.is_some()
    }
}

/// A function without a driver, bound to vfio-pci until dropped.
#[derive(Debug)]
struct TemporaryBinding {
    host: HostTree,
    entry: Entry,
    journal: Journal,
}

impl TemporaryBinding {
    fn new(host: &HostTree, bdf: Bdf, journal: Journal) -> Result<Self, Error> {
        driver::require_vfio_pci(host)?;
        let before = Taken::before(host, bdf)?;
        let entry = journal.begin(host, bdf, Change::Driver(before.clone()), OwnerKind::Run)?;
        // From here on, dropping `binding` reverts the completed steps.
        let binding = Self { host: host.clone(), entry, journal };
        before.bind_to_vfio_pci(host, bdf)?;
        Ok(binding)
    }
}

impl Drop for TemporaryBinding {
    fn drop(&mut self) {
        // On failure the journal entry stays for `restore`.
        let _ = self.journal.revert(&self.host, &self.entry);
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
    fn binds_a_function_without_a_driver_temporarily() {
        let (fixture, bdf) = fixture();
        let options = fixture.options();
        let hold = Hold::acquire(bdf, &options).unwrap();
        assert!(hold.is_temporary());
        assert_eq!(options.host.driver(bdf).unwrap().as_deref(), Some("vfio-pci"));
        assert_eq!(fixture.journaled(), [bdf]);
        drop(hold);
        assert_eq!(options.host.driver(bdf).unwrap(), None);
        assert_eq!(fixture.read("sys/bus/pci/devices/0000:03:00.0/driver_override"), "(null)\n");
        assert_eq!(fixture.journaled(), []);
    }

    #[test]
    fn only_locks_a_bound_function() {
        let (fixture, bdf) = fixture();
        fixture.function("0000:03:00.0").driver("vfio-pci");
        let hold = Hold::acquire(bdf, &fixture.options()).unwrap();
        assert!(!hold.is_temporary());
        assert_eq!(fixture.journaled(), []);
        drop(hold);
        assert_eq!(fixture.host().driver(bdf).unwrap().as_deref(), Some("vfio-pci"));
    }

    #[test]
    fn never_unbinds_a_kernel_driver() {
        let (fixture, bdf) = fixture();
        fixture.function("0000:03:00.0").driver("nvme");
        assert!(matches!(
            Hold::acquire(bdf, &fixture.options()),
            Err(Error::NotVfioDriver { driver, .. }) if driver == "nvme"
        ));
    }

    #[test]
    fn changes_nothing_without_vfio_pci() {
        let fixture = Fixture::new();
        let bdf = fixture.function("0000:03:00.0").group(3).bdf();
        assert!(matches!(Hold::acquire(bdf, &fixture.options()), Err(Error::VfioPciMissing)));
        assert_eq!(fixture.journaled(), []);
    }

    #[test]
    fn reverts_a_refused_step() {
        for step in 0..2 {
            let (fixture, bdf) = fixture();
            let options = fixture.options();
            fixture.fail_once_after(step);
            assert!(matches!(Hold::acquire(bdf, &options), Err(Error::Bind { .. })), "{step}");
            assert_eq!(options.host.driver(bdf).unwrap(), None);
            assert_eq!(fixture.read("sys/bus/pci/devices/0000:03:00.0/driver_override"), "(null)\n");
            assert_eq!(fixture.journaled(), []);
        }
    }
}

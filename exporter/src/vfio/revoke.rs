//! Calls that revoke the dma-bufs of an open function, besides [`Device::reset`] and [`Device::set_memory_enabled`]: a change of
//! the power state, and a hot reset.

use peerpath_paths::Bdf;

use super::Device;
use super::device::Parent;
use crate::Error;
use crate::sys::vfio as sys;

/// Offset of the status register in configuration space (PCI Local Bus Specification 3.0, 6.1).
const STATUS: u64 = 0x06;
/// Bit of the status register: the function has a list of capabilities.
const STATUS_CAPABILITIES: u16 = 1 << 4;
/// Offset of the pointer to the first capability.
const CAPABILITIES: u64 = 0x34;
/// ID of the power management capability.
const POWER_MANAGEMENT: u8 = 0x01;
/// Offset of the control and status register (PMCSR) in the power management capability.
const POWER_CONTROL: u64 = 4;
/// Bits of PMCSR with the power state.
const POWER_STATE: u16 = 0b11;
/// The most capabilities that 256 bytes of configuration space hold after a header of 64 bytes.
const MOST_CAPABILITIES: usize = 48;

/// Power state of a function, as the bits of PMCSR encode it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PowerState {
    /// The function is fully on.
    D0,
    /// The function is off, except for configuration space. VFIO revokes its dma-bufs until it is in D0 again.
    D3hot,
}

impl PowerState {
    fn bits(self) -> u16 {
        match self {
            Self::D0 => 0,
            Self::D3hot => 3,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::D0 => "D0",
            Self::D3hot => "D3hot",
        }
    }
}

impl Device {
    /// Checks that the function supports [`Device::reset`].
    ///
    /// # Errors
    /// [`Error::NoReset`].
    pub fn require_reset(&self) -> Result<(), Error> {
        if self.is_resettable() { Ok(()) } else { Err(Error::NoReset { bdf: self.bdf() }) }
    }

    /// Checks that the function has a power management capability.
    ///
    /// # Errors
    /// [`Error::NoPowerManagement`] or [`Error::Region`].
    pub fn require_power_management(&self) -> Result<(), Error> {
        self.power_control().map(drop)
    }

    /// Returns the power state of the function. `None` for D1 and D2.
    ///
    /// # Errors
    /// Same as [`Device::require_power_management`].
    pub fn power_state(&self) -> Result<Option<PowerState>, Error> {
        let bits = self.config_u16(self.power_control()?)? & POWER_STATE;
        Ok([PowerState::D0, PowerState::D3hot].into_iter().find(|state| state.bits() == bits))
    }

    /// Puts the function into a power state. While the function is in D3hot, every dma-buf of it is revoked (Linux,
    /// `vfio_lock_and_set_power_state`), and an access to a mapping of a BAR raises SIGBUS.
    ///
    /// # Errors
    /// Same as [`Device::require_power_management`], and [`Error::PowerState`] if the function stays in another state.
    pub fn set_power_state(&self, state: PowerState) -> Result<(), Error> {
        let at = self.power_control()?;
        let control = self.config_u16(at)? & !POWER_STATE | state.bits();
        self.write_config(at, &control.to_le_bytes())?;
        if self.power_state()? == Some(state) {
            return Ok(());
        }
        Err(Error::PowerState { bdf: self.bdf(), state: state.as_str() })
    }

    /// Checks that a hot reset is possible and affects no other function.
    ///
    /// # Errors
    /// [`Error::NoHotReset`], or [`Error::SharedHotReset`] if another function would be reset too.
    pub fn require_hot_reset(&self) -> Result<(), Error> {
        let bdf = self.bdf();
        let affected = sys::hot_reset_info(self.fd()).map_err(|source| Error::NoHotReset { bdf, source })?;
        let address = |function: &sys::AffectedFunction| {
            Bdf::new(function.segment.into(), function.bus, function.devfn >> 3, function.devfn & 7)
        };
        let others: Vec<Bdf> = affected.iter().filter_map(address).filter(|other| *other != bdf).collect();
        if others.is_empty() { Ok(()) } else { Err(Error::SharedHotReset { bdf, others }) }
    }

    /// Resets the bus or the slot of the function (`VFIO_DEVICE_PCI_HOT_RESET`). During the reset, the kernel revokes the
    /// dma-bufs of the function. Resets only a function that is alone on its bus.
    ///
    /// # Errors
    /// Same as [`Device::require_hot_reset`], and [`Error::Reset`].
    pub fn hot_reset(&self) -> Result<(), Error> {
        self.require_hot_reset()?;
        let failed = |source| Error::Reset { bdf: self.bdf(), source };
        match self.parent() {
            Parent::Group { group } => sys::hot_reset(self.fd(), &[group.fd()]),
            // The kernel then checks that every affected function belongs to the iommufd of this one.
            Parent::Cdev { .. } => sys::hot_reset(self.fd(), &[]),
        }
        .map_err(failed)
    }

    /// Returns the offset of PMCSR in configuration space.
    fn power_control(&self) -> Result<u64, Error> {
        let absent = Error::NoPowerManagement { bdf: self.bdf() };
        if self.config_u16(STATUS)? & STATUS_CAPABILITIES == 0 {
            return Err(absent);
        }
        let mut at = self.config_u8(CAPABILITIES)? & !3;
        // The limit ends a list that contains a cycle.
        for _ in 0..MOST_CAPABILITIES {
            if at < 0x40 {
                break;
            }
            if self.config_u8(at.into())? == POWER_MANAGEMENT {
                return Ok(u64::from(at) + POWER_CONTROL);
            }
            at = self.config_u8(u64::from(at) + 1)? & !3;
        }
        Err(absent)
    }

    fn config_u8(&self, offset: u64) -> Result<u8, Error> {
        let mut bytes = [0];
        self.read_config(offset, &mut bytes)?;
        Ok(bytes[0])
    }

    fn config_u16(&self, offset: u64) -> Result<u16, Error> {
        let mut bytes = [0; 2];
        self.read_config(offset, &mut bytes)?;
        Ok(u16::from_le_bytes(bytes))
    }
}

//! List of RDMA devices, and open devices.

use std::ffi::CStr;
use std::io;
use std::mem;
use std::os::fd::BorrowedFd;
use std::ptr::{self, NonNull};

use super::backend::{self, ffi};
use super::check;
use crate::QueuePairOptions;

/// `IBV_LINK_LAYER_ETHERNET`. Defined here because only one of the bindings has constants of anonymous enums.
const LINK_LAYER_ETHERNET: u8 = 2;

/// The devices for which libibverbs has a provider.
pub(in crate::verbs) struct DeviceList {
    first: Option<NonNull<*mut ffi::ibv_device>>,
    count: usize,
}

/// Reason why the device list is unavailable.
#[derive(Debug)]
pub(in crate::verbs) enum ListError {
    /// libibverbs is not installed.
    NoLibrary,
    /// `ibv_get_device_list` failed.
    Failed(io::Error),
}

/// Device in the list, not yet open.
pub(in crate::verbs) struct ListedDevice<'a> {
    device: NonNull<ffi::ibv_device>,
    _list: &'a DeviceList,
}

impl DeviceList {
    /// Reads the list. The list is empty if the kernel has no RDMA support.
    pub(in crate::verbs) fn read() -> Result<Self, ListError> {
        let mut count = 0;
        // SAFETY: the call writes the count; `Drop` frees the list.
        let first = unsafe { ffi::ibv_get_device_list(&raw mut count) };
        let error = io::Error::last_os_error();
        match NonNull::new(first) {
            Some(first) => Ok(Self { first: Some(first), count: usize::try_from(count).unwrap_or(0) }),
            None if backend::means_no_library(error.raw_os_error()) => Err(ListError::NoLibrary),
            // ENOSYS: the kernel's RDMA core is not loaded, so there are no devices.
            None if error.raw_os_error() == Some(libc::ENOSYS) => Ok(Self { first: None, count: 0 }),
            None => Err(ListError::Failed(error)),
        }
    }

    /// Iterates over the devices.
    pub(in crate::verbs) fn iter(&self) -> impl Iterator<Item = ListedDevice<'_>> {
        (0..self.count).filter_map(|index| {
            // SAFETY: the library wrote `count` pointers at `first`, which are valid until the list is freed.
            let device = unsafe { *self.first?.as_ptr().add(index) };
            Some(ListedDevice { device: NonNull::new(device)?, _list: self })
        })
    }
}

impl Drop for DeviceList {
    fn drop(&mut self) {
        if let Some(first) = self.first {
            // SAFETY: the list is from `ibv_get_device_list` and freed once. Open devices hold their own references.
            unsafe { ffi::ibv_free_device_list(first.as_ptr()) }
        }
    }
}

impl ListedDevice<'_> {
    /// Returns the name of the device, e.g. `rxe0`.
    pub(in crate::verbs) fn name(&self) -> String {
        // SAFETY: the list is alive, and so is the device.
        let name = unsafe { ffi::ibv_get_device_name(self.device.as_ptr()) };
        if name.is_null() {
            return String::new();
        }
        // SAFETY: the name is a zero-terminated string in the device.
        unsafe { CStr::from_ptr(name) }.to_string_lossy().into_owned()
    }

    /// Whether the device uses iWARP, whose queue pairs need a connection manager (RDMA CM).
    pub(in crate::verbs) fn is_iwarp(&self) -> bool {
        // SAFETY: the list is alive, and so is the device.
        let transport = unsafe { (*self.device.as_ptr()).transport_type };
        transport == ffi::ibv_transport_type::IBV_TRANSPORT_IWARP
    }

    /// Opens the device.
    pub(in crate::verbs) fn open(&self) -> io::Result<Context> {
        // SAFETY: the list is alive, and so is the device.
        let context = unsafe { ffi::ibv_open_device(self.device.as_ptr()) };
        NonNull::new(context).map(|context| Context { context }).ok_or_else(io::Error::last_os_error)
    }
}

/// An open device.
pub(in crate::verbs) struct Context {
    context: NonNull<ffi::ibv_context>,
}

// SAFETY: libibverbs locks its state, so several threads may use a context at a time.
unsafe impl Send for Context {}
// SAFETY: as above.
unsafe impl Sync for Context {}

/// Limits of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::verbs) struct Limits {
    /// Firmware version. Empty for software devices.
    pub(in crate::verbs) firmware: String,
    /// Maximum work requests per queue.
    pub(in crate::verbs) queue_depth: u32,
    /// Maximum entries of a completion queue.
    pub(in crate::verbs) completions: u32,
    /// Maximum RDMA reads in flight per queue pair, as initiator and as responder.
    pub(in crate::verbs) reads_in_flight: u32,
    /// Whether the device supports atomic operations.
    pub(in crate::verbs) atomics: bool,
}

/// The state of a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::verbs) enum PortState {
    /// The port is active.
    Active,
    /// The port is in another state. The text is the verbs name without the prefix `IBV_PORT_`.
    Other(&'static str),
}

/// An MTU in the encoding of the specification (`enum ibv_mtu`: 1 is 256 bytes, 5 is 4096).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::verbs) struct Mtu(pub(super) ffi::ibv_mtu::Type);

impl Mtu {
    /// Encodes an MTU in bytes. `None` if no `enum ibv_mtu` has this value.
    pub(in crate::verbs) fn of_bytes(bytes: u32) -> Option<Self> {
        let place = QueuePairOptions::MTUS_BYTES.iter().position(|known| *known == bytes)?;
        Some(Self(place as ffi::ibv_mtu::Type + 1))
    }

    /// Returns the MTU in bytes.
    pub(in crate::verbs) fn bytes(self) -> u32 {
        let place = (self.0 as usize).clamp(1, QueuePairOptions::MTUS_BYTES.len()) - 1;
        QueuePairOptions::MTUS_BYTES[place]
    }
}

/// Attributes of a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::verbs) struct Port {
    /// State of the port.
    pub(in crate::verbs) state: PortState,
    /// Active MTU of the port.
    pub(in crate::verbs) mtu: Mtu,
    /// LID, on InfiniBand.
    pub(in crate::verbs) lid: u16,
    /// Whether the link layer is Ethernet, so that peers are addressed by GID.
    pub(in crate::verbs) ethernet: bool,
    /// Maximum message size, in bytes.
    pub(in crate::verbs) max_message_bytes: u32,
}

impl Context {
    pub(super) fn as_ptr(&self) -> *mut ffi::ibv_context {
        self.context.as_ptr()
    }

    /// Returns the file descriptor for uverbs commands.
    pub(super) fn command_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the fd is open as long as the context, which the returned value borrows.
        unsafe { BorrowedFd::borrow_raw((*self.as_ptr()).cmd_fd) }
    }

    /// Queries the limits of the device.
    pub(in crate::verbs) fn limits(&self) -> io::Result<Limits> {
        // SAFETY: the structure consists of integers, for which zero is valid.
        let mut attributes: ffi::ibv_device_attr = unsafe { mem::zeroed() };
        // SAFETY: the context is open, and the call writes the structure.
        check(unsafe { ffi::ibv_query_device(self.as_ptr(), &raw mut attributes) })?;
        let firmware = attributes.fw_ver.map(|byte| byte.to_ne_bytes()[0]);
        let firmware = firmware.split(|byte| *byte == 0).next().unwrap_or_default();
        let limit = |value: libc::c_int| u32::try_from(value).unwrap_or(0);
        Ok(Limits {
            firmware: String::from_utf8_lossy(firmware).into_owned(),
            queue_depth: limit(attributes.max_qp_wr),
            completions: limit(attributes.max_cqe),
            reads_in_flight: limit(attributes.max_qp_rd_atom.min(attributes.max_qp_init_rd_atom)),
            atomics: attributes.atomic_cap != ffi::ibv_atomic_cap::IBV_ATOMIC_NONE,
        })
    }

    /// Whether the device supports on-demand paging (ODP). mlx5 needs it to import memory that the exporter may move or revoke; irdma
    /// imports revocable memory without it.
    pub(in crate::verbs) fn pages_on_demand(&self) -> io::Result<bool> {
        // SAFETY: the structure consists of integers, for which zero is valid.
        let mut attributes: ffi::ibv_device_attr_ex = unsafe { mem::zeroed() };
        // SAFETY: the context is open, null is valid for no input, and the binding passes the size of the structure.
        check(unsafe { ffi::ibv_query_device_ex(self.as_ptr(), ptr::null(), &raw mut attributes) })?;
        Ok(attributes.odp_caps.general_caps & ODP_SUPPORT != 0)
    }

    /// Queries a port.
    pub(in crate::verbs) fn port(&self, port: u8) -> io::Result<Port> {
        // SAFETY: the structure consists of integers, for which zero is valid.
        let mut attributes: ffi::ibv_port_attr = unsafe { mem::zeroed() };
        // SAFETY: the context is open.
        check(unsafe { backend::query_port(self.as_ptr(), port, &mut attributes) })?;
        Ok(Port {
            state: port_state(attributes.state),
            mtu: Mtu(attributes.active_mtu),
            lid: attributes.lid,
            ethernet: attributes.link_layer == LINK_LAYER_ETHERNET,
            max_message_bytes: attributes.max_msg_sz,
        })
    }
}

/// `IBV_ODP_SUPPORT` (infiniband/verbs.h).
const ODP_SUPPORT: u64 = 1;

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: opened by `ibv_open_device` and closed once. Each object of the context holds it, so none exists anymore.
        unsafe { ffi::ibv_close_device(self.as_ptr()) };
    }
}

fn port_state(state: ffi::ibv_port_state::Type) -> PortState {
    use ffi::ibv_port_state as state_of;
    match state {
        state_of::IBV_PORT_ACTIVE => PortState::Active,
        state_of::IBV_PORT_DOWN => PortState::Other("DOWN"),
        state_of::IBV_PORT_INIT => PortState::Other("INIT"),
        state_of::IBV_PORT_ARMED => PortState::Other("ARMED"),
        state_of::IBV_PORT_ACTIVE_DEFER => PortState::Other("ACTIVE_DEFER"),
        _ => PortState::Other("an unknown state"),
    }
}

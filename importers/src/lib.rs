//! Registers exported memory with target devices, and transfers data through them.
//!
//! A [`Buffer`](peerpath_exporter::Buffer) is memory that an exporter shares: a PCI BAR as a dma-buf, memory of a GPU, or
//! host memory. An importer is a kind of device that can reach such memory: [`verbs`] (RDMA NICs), [`iommufd`] (other PCI
//! functions, and NVMe drives, which transfer data) and [`mod@cuda`] (GPUs).
//!
//! Each importer has a typed API. This program writes a BAR through an RDMA NIC and reads the bytes back through the BAR:
//!
//! ```no_run
//! # #[cfg(any(feature = "verbs-dlopen", feature = "verbs-link"))]
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use peerpath_exporter::vfio::{self, BarIndex};
//! use peerpath_importers::verbs;
//!
//! // Bound to vfio-pci already; opening it does not change the host.
//! let device = vfio::Device::open("0000:03:00.0".parse()?)?;
//! let buffer = device.export(BarIndex::new(2)?, ..)?;
//!
//! let nic = verbs::Device::open("mlx5_0")?;
//! let region = nic.register(&buffer)?; // error.cause() gives the reason, e.g. Cause::Topology
//! let mut loopback = region.loopback(16)?;
//! loopback.write(0, b"hello")?.wait()?;
//!
//! assert_eq!(buffer.view().bytes(0, 5)?, b"hello");
//! # Ok(())
//! # }
//! # #[cfg(not(any(feature = "verbs-dlopen", feature = "verbs-link")))]
//! # fn main() {}
//! ```
//!
//! The traits [`Importer`], [`Device`], [`Registration`] and [`DataPlane`] cover every kind of device, for programs that
//! take targets by name. To add an importer, implement them in a new module and add one line to [`IMPORTERS`]; help
//! texts, plans and the conformance test loop over that table. Pass importers of other crates to [`parse_target_among`].
//!
//! Lifetimes keep objects alive as long as others depend on them. A buffer cannot be unregistered while a data plane uses
//! it:
//!
//! ```compile_fail,E0505
//! # use peerpath_importers::{DataPlaneSettings, Error, Registration};
//! fn too_early(registration: Box<dyn Registration>, settings: &DataPlaneSettings) -> Result<(), Error> {
//!     let mut data_plane = registration.data_plane(settings)?;
//!     registration.unregister()?;
//!     data_plane.submit(&[])?;
//!     Ok(())
//! }
//! ```
//!
//! The correct order compiles:
//!
//! ```
//! # use peerpath_importers::{DataPlaneSettings, Error, Registration};
//! fn in_order(registration: Box<dyn Registration>, settings: &DataPlaneSettings) -> Result<(), Error> {
//!     let mut data_plane = registration.data_plane(settings)?;
//!     data_plane.submit(&[])?;
//!     drop(data_plane);
//!     registration.unregister()?;
//!     Ok(())
//! }
//! ```

pub mod cuda;
mod data_plane;
mod device;
mod endpoint;
mod error;
mod importer;
pub mod iommufd;
mod loopback;
mod op;
mod queue_pair_options;
mod target;
#[cfg(any(feature = "verbs-dlopen", feature = "verbs-link"))]
pub mod verbs;

pub use data_plane::{Completion, DataPlane, DataPlaneSettings, Operands, Side, Transfer, TransferError};
pub use device::{DeferredRelease, Device, DeviceInfo, Registration};
pub use endpoint::{ConnectedEnd, EndSettings, Endpoint, PortAddress, QueuePairEnd, Region, UnconnectedEnd};
pub use error::Error;
pub use importer::{Availability, Capabilities, Discovered, Importer, Usage};
pub use loopback::{Loopback, LoopbackError, Pending, PendingRead};
pub use op::{Direction, MechanismSpec, Op, OpSpec, ParseOpError, Revocation, Role};
pub use queue_pair_options::{ParseTransportError, QueuePairOptions, Transport};
pub use target::{ParseTargetError, parse_target, parse_target_among, targets_named};

/// Built-in importers.
pub static IMPORTERS: &[&dyn Importer] = &[
    #[cfg(any(feature = "verbs-dlopen", feature = "verbs-link"))]
    &verbs::Verbs,
    &iommufd::Iommufd,
    &cuda::Cuda,
];

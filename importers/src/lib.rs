//! A [`Buffer`] and a target device become a [`Registration`], and bytes move through it.
//!
//! Adding an importer is one file and one line of [`IMPORTERS`]: help texts, `list`, plans and the conformance test
//! all loop over that table.
//!
//! What depends on something borrows it or holds it, so it cannot be taken apart in the wrong order. A registration
//! cannot be taken back while a data plane uses it:
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
//! The other way round it compiles:
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
pub use op::{Direction, MechanismSpec, Op, OpSpec, ParseOpError, Role};
pub use queue_pair_options::{ParseTransportError, QueuePairOptions, Transport};
pub use target::{ParseTargetError, parse_target, parse_target_among};

/// The importers that are built in.
pub static IMPORTERS: &[&dyn Importer] = &[
    #[cfg(any(feature = "verbs-dlopen", feature = "verbs-link"))]
    &verbs::Verbs,
    &iommufd::Iommufd,
    &cuda::Cuda,
];

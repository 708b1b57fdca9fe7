//! BARs of functions that VFIO drives: two doors into one [`Device`], and what an open device offers.

mod bars;
mod cdev;
mod config;
mod device;
mod export;
mod group;
mod open_devices;
mod regions;
mod view;

pub use bars::{NotExportable, bars};
pub use device::Device;
pub use export::VfioExporter;

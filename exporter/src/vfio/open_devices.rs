//! Devices that this process has open. VFIO lets a device be opened only once, so all users of a function share it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use peerpath_paths::Bdf;

use super::Device;
use crate::{Error, VfioInterface};

static OPEN: Mutex<Option<HashMap<Bdf, Weak<Device>>>> = Mutex::new(None);

/// Returns the open device of a function, or opens it with `open_new`.
pub(crate) fn share(
    bdf: Bdf,
    interface: VfioInterface,
    open_new: impl FnOnce() -> Result<Device, Error>,
) -> Result<Arc<Device>, Error> {
    // Hold the lock while opening, so that a second thread waits and shares the device.
    let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
    let open = open.get_or_insert_default();
    if let Some(device) = open.get(&bdf).and_then(Weak::upgrade) {
        if interface != VfioInterface::Auto && interface != device.interface() {
            return Err(Error::OtherVfioInterface { bdf, open: device.interface() });
        }
        return Ok(device);
    }
    let device = Arc::new(open_new()?);
    open.insert(bdf, Arc::downgrade(&device));
    Ok(device)
}

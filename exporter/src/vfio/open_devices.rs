//! The devices that this process has open: VFIO gives a device out once, so sources on one function share it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use peerpath_paths::Bdf;

use super::Device;
use crate::{Door, Error};

static OPEN: Mutex<Option<HashMap<Bdf, Weak<Device>>>> = Mutex::new(None);

/// The device that is open already, or the one that `make` opens.
pub(crate) fn share(bdf: Bdf, door: Door, make: impl FnOnce() -> Result<Device, Error>) -> Result<Arc<Device>, Error> {
    // Held while opening: of two threads that want the same function, the second waits and shares.
    let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
    let open = open.get_or_insert_default();
    if let Some(device) = open.get(&bdf).and_then(Weak::upgrade) {
        if door != Door::Auto && door != device.door() {
            return Err(Error::OtherDoor { bdf, open: device.door() });
        }
        return Ok(device);
    }
    let device = Arc::new(make()?);
    open.insert(bdf, Arc::downgrade(&device));
    Ok(device)
}

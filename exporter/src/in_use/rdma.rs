//! RDMA devices on a function, and those in software (rxe, siw) upon its network interfaces.

use super::below::Below;
use crate::Error;
use crate::host_tree::{HostTree, names, read_trimmed};

/// An RDMA device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RdmaDevice {
    pub(crate) name: String,
    /// Of one in software: its kind and the interface that it stands on.
    pub(crate) software: Option<(String, String)>,
}

/// The RDMA devices that would go with the function's driver.
pub(crate) fn rdma_devices(host: &HostTree, below: &Below) -> Result<Vec<RdmaDevice>, Error> {
    let class = host.path("sys/class/infiniband");
    let mut found = Vec::new();
    for name in names(&class)? {
        let folder = class.join(&name);
        if folder.join("device").exists() {
            if below.contains(&folder.join("device")) {
                found.push(RdmaDevice { name, software: None });
            }
            continue;
        }
        // rxe names its interface outright; siw, which speaks iWARP, has it beside its GID.
        let software = match read_trimmed(&folder.join("parent"))? {
            Some(interface) => Some(("rxe", interface)),
            None => {
                let is_siw = read_trimmed(&folder.join("node_type"))?.is_some_and(|kind| kind.ends_with("RNIC"));
                // An entry that is not in use cannot be read.
                let interface = read_trimmed(&folder.join("ports/1/gid_attrs/ndevs/0")).ok().flatten();
                interface.filter(|_| is_siw).map(|interface| ("siw", interface))
            }
        };
        if let Some((kind, interface)) = software.filter(|(_, interface)| below.interfaces.contains(interface)) {
            found.push(RdmaDevice { name, software: Some((kind.to_owned(), interface)) });
        }
    }
    Ok(found)
}

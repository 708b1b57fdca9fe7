//! Exports a BAR, registers it with an RDMA NIC, writes through the NIC and reads the bytes back through the BAR.
//!
//! ```text
//! loopback 0000:03:00.0 2 mlx5_0
//! ```
//!
//! The function must be bound to vfio-pci. The example overwrites the first five bytes of the BAR.

use std::error::Error;

use peerpath_exporter::vfio;
use peerpath_importers::verbs;
use peerpath_paths::Cause;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [bdf, bar, nic] = &arguments[..] else { return Err("usage: loopback BDF BAR DEVICE".into()) };

    let device = vfio::Device::open(bdf.parse()?)?;
    let buffer = device.export(bar.parse()?, ..)?;

    let nic = verbs::Device::open(nic)?;
    let region = match nic.register(&buffer) {
        Err(error) if error.cause() == Some(Cause::Topology) => {
            return Err(format!("the NIC cannot reach the BAR on this host: {error}").into());
        }
        region => region?,
    };
    let mut loopback = region.loopback(16)?;
    loopback.write(0, b"hello")?.wait()?;

    // The view reads through the CPU's mapping of the BAR, not through the NIC.
    assert_eq!(buffer.view().bytes(0, 5)?, b"hello");
    assert_eq!(loopback.read(0, 5)?.wait()?, b"hello");
    println!("{} bytes of {bdf} registered by {}, written and read", buffer.length_bytes(), region.mechanism());
    Ok(())
}

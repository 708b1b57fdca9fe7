//! Exports a BAR, registers it with an RDMA NIC, writes through the NIC and reads the bytes back through the BAR.
//!
//! ```text
//! loopback 0000:03:00.0 2 mlx5_0
//! ```
//!
//! The function must already be bound to vfio-pci.

use std::error::Error;

use peerpath_exporter::{Exporter, OpenOptions, VfioExporter};
use peerpath_importers::verbs;
use peerpath_paths::{Bdf, Cause};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [bdf, bar, nic] = &arguments[..] else { return Err("usage: loopback BDF BAR DEVICE".into()) };
    let bdf: Bdf = bdf.parse()?;

    let bar = VfioExporter::open(bdf, bar.parse::<u8>()?.try_into()?, &[], &OpenOptions::default())?;
    // A dma-buf, and the exporter's CPU mapping of the same bytes.
    let buffer = bar.export(bar.length_bytes())?;

    let nic = verbs::Device::open(nic)?;
    let region = match nic.register(&buffer) {
        Err(error) if error.cause() == Some(Cause::Topology) => {
            return Err(format!("the NIC cannot reach the BAR on this host: {error}").into());
        }
        region => region?,
    };
    let mut loopback = region.loopback(16)?;
    loopback.write(0, b"hello")?.wait()?;

    // Read through the BAR's CPU mapping, not through RDMA.
    let mut bytes = [0; 5];
    buffer.view().read(0, &mut bytes)?;
    assert_eq!(&bytes, b"hello");
    assert_eq!(loopback.read(0, 5)?.wait()?, b"hello");
    println!("{} bytes of {bdf} registered by {}, written and read", buffer.length_bytes(), region.mechanism());
    Ok(())
}

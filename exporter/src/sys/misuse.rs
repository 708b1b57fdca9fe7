//! Checks the errors of a real kernel for invalid requests that the safe functions of this crate cannot send.
//! `PEERPATH_MISUSE=BDF:BAR` names a BAR of an unused PCI function.

use nix::sys::mman::{MapFlags, ProtFlags, mmap};
use peerpath_paths::{Cause, Facts, Step, explain};
use vfio_bindings::bindings::vfio as uapi;

use super::vfio::{dma_buf_feature, export_dma_buf, words};
use crate::vfio::Device;
use crate::{BarRange, Source, page_bytes};

const GET: u32 = uapi::VFIO_DEVICE_FEATURE_GET | uapi::VFIO_DEVICE_FEATURE_DMA_BUF;
const SET: u32 = uapi::VFIO_DEVICE_FEATURE_SET | uapi::VFIO_DEVICE_FEATURE_DMA_BUF;

#[test]
#[ignore = "needs a kernel with VFIO and an unused function: PEERPATH_MISUSE=BDF:BAR"]
fn the_kernel_rejects_invalid_requests_with_the_errnos_of_the_table() {
    let named = std::env::var("PEERPATH_MISUSE").expect("PEERPATH_MISUSE is not set");
    let Ok(Source::Vfio { bdf, bar, .. }) = named.parse() else { panic!("{named} is not a BAR") };
    let device = Device::open(bdf).unwrap();
    let (bar, page) = (u32::from(bar.get()), page_bytes());
    // Layout: size and flags of the header; region index and open flags; flags and number of ranges; the range.
    let request = |bytes, header, flags, count| {
        vec![words(bytes, header), words(bar, libc::O_CLOEXEC.cast_unsigned()), words(flags, count), 0, page]
    };
    let cases = [
        ("SET in place of GET", request(40, SET, 0, 1)),
        ("a size without the structure", request(8, GET, 0, 1)),
        ("a size that ends inside the structure", request(16, GET, 0, 1)),
        ("flags that do not exist", request(40, GET, 1, 1)),
        ("no range", request(24, GET, 0, 0)),
    ];
    for (name, request) in cases {
        let returned = dma_buf_feature(device.fd(), &request).map(drop).map_err(|error| error.raw_os_error());
        assert_eq!(returned, Err(Some(libc::EINVAL)), "{name}");
    }
    let explanation = explain(Step::Export, libc::EINVAL, &Facts::default());
    assert_eq!(explanation.cause, Some(Cause::BarNotExportable));

    dma_buf_feature(device.fd(), &request(40, GET, 0, 1)).expect("cannot export with a valid request");
    let range = BarRange { offset_bytes: 0, length_bytes: page };
    let dma_buf = export_dma_buf(device.fd(), bar, &[range]).unwrap();
    let length = usize::try_from(page).ok().and_then(std::num::NonZeroUsize::new).unwrap();
    // SAFETY: the kernel would choose a free address for a new mapping, and the call is expected to fail.
    let mapped = unsafe { mmap(None, length, ProtFlags::PROT_READ, MapFlags::MAP_SHARED, &dma_buf, 0) };
    assert_eq!(mapped.map(drop), Err(nix::errno::Errno::EINVAL), "mapped the dma-buf of a BAR");
}

//! Registration of dma-bufs by the uverbs ioctl, for devices whose user-space provider does not implement it (rxe).
//!
//! A command is a header and a list of attributes. An attribute holds an input of up to 8 bytes, an object handle (input or
//! result), or a pointer through which the kernel writes a result. `include/uapi/rdma/rdma_user_ioctl_cmds.h` and
//! `ib_user_ioctl_cmds.h` define the layout.

use std::io;
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd};

/// `UVERBS_OBJECT_MR`.
const OBJECT_MR: u16 = 7;
/// `UVERBS_METHOD_MR_DESTROY`.
const METHOD_MR_DESTROY: u16 = 1;
/// `UVERBS_METHOD_REG_DMABUF_MR`.
const METHOD_REG_DMABUF_MR: u16 = 4;
/// `UVERBS_ATTR_DESTROY_MR_HANDLE`.
const DESTROY_MR_HANDLE: u16 = 0;
/// `UVERBS_ATTR_F_MANDATORY`: a kernel that does not know the attribute refuses the command.
const MANDATORY: u16 = 1;

/// `enum uverbs_attrs_reg_dmabuf_mr_cmd_attr_ids`.
mod reg_dmabuf_mr {
    pub(super) const HANDLE: u16 = 0;
    pub(super) const PD_HANDLE: u16 = 1;
    pub(super) const OFFSET: u16 = 2;
    pub(super) const LENGTH: u16 = 3;
    pub(super) const IOVA: u16 = 4;
    pub(super) const FD: u16 = 5;
    pub(super) const ACCESS_FLAGS: u16 = 6;
    pub(super) const RESP_LKEY: u16 = 7;
    pub(super) const RESP_RKEY: u16 = 8;
}

/// `struct ib_uverbs_ioctl_hdr`.
#[repr(C)]
#[derive(Default)]
pub(super) struct Header {
    length: u16,
    object_id: u16,
    method_id: u16,
    attribute_count: u16,
    reserved1: u64,
    driver_id: u32,
    reserved2: u32,
}

/// `struct ib_uverbs_attr`, with integers in place of its unions.
#[repr(C)]
#[derive(Clone, Copy)]
struct Attribute {
    id: u16,
    length: u16,
    flags: u16,
    reserved: u16,
    data: u64,
}

/// Command with `COUNT` attributes.
#[repr(C)]
struct Command<const COUNT: usize> {
    header: Header,
    attributes: [Attribute; COUNT],
}

const _: () = {
    assert!(mem::size_of::<Header>() == 24 && mem::align_of::<Header>() == 8);
    assert!(mem::offset_of!(Header, reserved1) == 8 && mem::offset_of!(Header, driver_id) == 16);
    assert!(mem::size_of::<Attribute>() == 16 && mem::align_of::<Attribute>() == 8);
    assert!(mem::offset_of!(Attribute, flags) == 4 && mem::offset_of!(Attribute, data) == 8);
    assert!(mem::offset_of!(Command<2>, attributes) == 24 && mem::size_of::<Command<2>>() == 56);
};

mod ioctl {
    // `RDMA_VERBS_IOCTL`.
    nix::ioctl_readwrite!(rdma_verbs, 0x1b, 1, super::Header);
}

impl Attribute {
    const fn new(id: u16, length: u16, data: u64) -> Self {
        Self { id, length, flags: MANDATORY, reserved: 0, data }
    }

    /// Creates an attribute with an object handle. If the command creates the object, the kernel writes its handle here.
    const fn object(id: u16, handle: u32) -> Self {
        // The kernel reads the handle as 64 bits.
        Self::new(id, 0, handle as u64)
    }

    const fn u64(id: u16, value: u64) -> Self {
        Self::new(id, 8, value)
    }

    /// Creates an attribute with a 32-bit value. The kernel reads the first 4 bytes of the data in native byte order.
    fn u32(id: u16, value: u32) -> Self {
        let mut data = [0; 8];
        data[..4].copy_from_slice(&value.to_ne_bytes());
        Self::new(id, 4, u64::from_ne_bytes(data))
    }

    /// Creates an attribute with a pointer, through which the kernel writes a 32-bit result.
    fn result(id: u16, into: *mut u32) -> Self {
        // A pointer has at most 64 bits.
        Self::new(id, 4, into.expose_provenance() as u64)
    }
}

impl<const COUNT: usize> Command<COUNT> {
    fn new(driver_id: u32, method_id: u16, attributes: [Attribute; COUNT]) -> Self {
        const { assert!(mem::size_of::<Self>() <= 4096, "the kernel accepts at most a page") };
        let header = Header {
            // A command is at most a page long, so its length and its number of attributes fit 16 bits.
            length: mem::size_of::<Self>() as u16,
            object_id: OBJECT_MR,
            method_id,
            attribute_count: COUNT as u16,
            driver_id,
            ..Header::default()
        };
        Self { header, attributes }
    }

    /// # Safety
    /// Every result attribute points to a writable `u32`.
    unsafe fn run(&mut self, command_fd: BorrowedFd<'_>) -> io::Result<()> {
        let command: *mut Self = self;
        // SAFETY: the header holds the length of the whole command, which the pointer covers. The caller guarantees that the
        // addresses in it are valid.
        unsafe { ioctl::rdma_verbs(command_fd.as_raw_fd(), command.cast()) }?;
        Ok(())
    }
}

/// Memory region that the ioctl created, without libibverbs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct KernelRegion {
    pub(super) handle: u32,
    pub(super) local_key: u32,
    pub(super) remote_key: u32,
}

/// Parameters of a registration.
#[derive(Debug, Clone, Copy)]
pub(super) struct Request {
    pub(super) domain_handle: u32,
    pub(super) length_bytes: u64,
    /// Address of the first byte in work requests.
    pub(super) base: u64,
    /// File descriptor of the dma-buf; -1 to probe for support.
    pub(super) fd: libc::c_int,
    pub(super) access: u32,
}

/// Registers a dma-buf (`UVERBS_METHOD_REG_DMABUF_MR`). The kernel returns EPROTONOSUPPORT if it lacks the method, and
/// EOPNOTSUPP if the driver of the device does not implement the method.
pub(super) fn register_dma_buf(
    command_fd: BorrowedFd<'_>,
    driver_id: u32,
    request: &Request,
) -> io::Result<KernelRegion> {
    use reg_dmabuf_mr as id;
    let (mut local_key, mut remote_key) = (0, 0);
    let attributes = [
        Attribute::object(id::HANDLE, 0),
        Attribute::object(id::PD_HANDLE, request.domain_handle),
        Attribute::u64(id::OFFSET, 0),
        Attribute::u64(id::LENGTH, request.length_bytes),
        Attribute::u64(id::IOVA, request.base),
        Attribute::u32(id::FD, request.fd.cast_unsigned()),
        Attribute::u32(id::ACCESS_FLAGS, request.access),
        Attribute::result(id::RESP_LKEY, &raw mut local_key),
        Attribute::result(id::RESP_RKEY, &raw mut remote_key),
    ];
    let mut command = Command::new(driver_id, METHOD_REG_DMABUF_MR, attributes);
    // SAFETY: both results are written to the keys above, which outlive the call.
    unsafe { command.run(command_fd)? };
    let handle = u32::try_from(command.attributes[0].data).map_err(|_| io::Error::from_raw_os_error(libc::EPROTO))?;
    Ok(KernelRegion { handle, local_key, remote_key })
}

/// Deregisters a memory region (`UVERBS_METHOD_MR_DESTROY`).
pub(super) fn destroy(command_fd: BorrowedFd<'_>, driver_id: u32, handle: u32) -> io::Result<()> {
    let mut command = Command::new(driver_id, METHOD_MR_DESTROY, [Attribute::object(DESTROY_MR_HANDLE, handle)]);
    // SAFETY: the command has no result attribute.
    unsafe { command.run(command_fd) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::os::fd::AsFd;

    #[test]
    fn the_ioctl_number_matches_the_header() {
        // _IOWR(0x1b, 1, 24 bytes)
        assert_eq!(nix::request_code_readwrite!(0x1b, 1, mem::size_of::<Header>()), 0xc018_1b01);
    }

    #[test]
    fn small_values_are_inline_in_an_attribute() {
        let attribute = Attribute::u32(reg_dmabuf_mr::FD, 0x0102_0304);
        assert_eq!((attribute.id, attribute.length, attribute.flags, attribute.reserved), (5, 4, 1, 0));
        assert_eq!(attribute.data.to_ne_bytes()[..4], 0x0102_0304_u32.to_ne_bytes());
        assert_eq!(Attribute::object(0, 9).length, 0);
    }

    #[test]
    fn header_has_the_length_of_its_command() {
        let command = Command::new(14, METHOD_REG_DMABUF_MR, [Attribute::u64(0, 0); 9]);
        assert_eq!((command.header.length, command.header.attribute_count), (24 + 9 * 16, 9));
        assert_eq!((command.header.driver_id, command.header.reserved1, command.header.reserved2), (14, 0, 0));
    }

    #[test]
    fn other_files_refuse_the_command() {
        let null = File::open("/dev/null").unwrap();
        let request = Request { domain_handle: 0, length_bytes: 4096, base: 0, fd: -1, access: 7 };
        let refused = register_dma_buf(null.as_fd(), 14, &request).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(libc::ENOTTY));
        assert!(destroy(null.as_fd(), 14, 0).is_err());
    }
}

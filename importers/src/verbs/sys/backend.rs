//! The seam between the two ways of getting at libibverbs. Both crates declare the same C interface under the same names;
//! what differs stands here.

#[cfg(all(feature = "verbs-dlopen", feature = "verbs-link"))]
compile_error!("`verbs-dlopen` and `verbs-link` define the same symbols: choose one (the default is `verbs-dlopen`)");

#[cfg(feature = "verbs-dlopen")]
pub(super) use rdma_mummy_sys as ffi;
#[cfg(all(feature = "verbs-link", not(feature = "verbs-dlopen")))]
pub(super) use rdma_sys as ffi;

/// Whether this errno of the very first call says that the library is not there: the loaded library's stand-ins answer
/// with it, and the real `ibv_get_device_list` never does.
#[cfg(feature = "verbs-dlopen")]
pub(super) fn means_no_library(errno: Option<i32>) -> bool {
    errno == Some(libc::EOPNOTSUPP)
}

/// A program bound at link time does not start without its library.
#[cfg(all(feature = "verbs-link", not(feature = "verbs-dlopen")))]
pub(super) fn means_no_library(_errno: Option<i32>) -> bool {
    false
}

/// `ibv_query_port`.
///
/// # Safety
/// The context is open.
#[cfg(feature = "verbs-dlopen")]
pub(super) unsafe fn query_port(
    context: *mut ffi::ibv_context,
    port: u8,
    attributes: &mut ffi::ibv_port_attr,
) -> libc::c_int {
    // SAFETY: the caller's context is open, and the attributes are a whole structure of the crate's own declaration.
    unsafe { ffi::ibv_query_port(context, port, attributes) }
}

/// `ibv_query_port`: here the library's symbol itself, which fills the first part of the structure, all that is used of it.
///
/// # Safety
/// The context is open.
#[cfg(all(feature = "verbs-link", not(feature = "verbs-dlopen")))]
pub(super) unsafe fn query_port(
    context: *mut ffi::ibv_context,
    port: u8,
    attributes: &mut ffi::ibv_port_attr,
) -> libc::c_int {
    let attributes: *mut ffi::ibv_port_attr = attributes;
    // SAFETY: the caller's context is open, and the older structure is by the library's ABI a prefix of the current one.
    unsafe { ffi::ibv_query_port(context, port, attributes.cast()) }
}

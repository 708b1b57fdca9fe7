//! Two alternative crates that bind libibverbs (features `verbs-dlopen` and `verbs-link`). Both declare the same C interface
//! under the same names; this module hides the differences.

#[cfg(all(feature = "verbs-dlopen", feature = "verbs-link"))]
compile_error!(
    "`verbs-dlopen` and `verbs-link` define the same symbols: enable only one (the default is `verbs-dlopen`)"
);

#[cfg(feature = "verbs-dlopen")]
pub(super) use rdma_mummy_sys as ffi;
#[cfg(all(feature = "verbs-link", not(feature = "verbs-dlopen")))]
pub(super) use rdma_sys as ffi;

/// Whether this errno of `ibv_get_device_list` means that libibverbs is missing. Only the binding returns this errno;
/// libibverbs never does.
#[cfg(feature = "verbs-dlopen")]
pub(super) fn means_no_library(errno: Option<i32>) -> bool {
    errno == Some(libc::EOPNOTSUPP)
}

/// Always false: a program that links libibverbs does not start without the library.
#[cfg(all(feature = "verbs-link", not(feature = "verbs-dlopen")))]
pub(super) fn means_no_library(_errno: Option<i32>) -> bool {
    false
}

/// Calls `ibv_query_port`.
///
/// # Safety
/// The context is open.
#[cfg(feature = "verbs-dlopen")]
pub(super) unsafe fn query_port(
    context: *mut ffi::ibv_context,
    port: u8,
    attributes: &mut ffi::ibv_port_attr,
) -> libc::c_int {
    // SAFETY: the caller's context is open, and the binding declares the structure.
    unsafe { ffi::ibv_query_port(context, port, attributes) }
}

/// Calls the exported symbol `ibv_query_port`, which fills only the first fields of the structure. The other fields are not
/// used.
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
    // SAFETY: the caller's context is open. In the library's ABI, the older structure is a prefix of the current one.
    unsafe { ffi::ibv_query_port(context, port, attributes.cast()) }
}

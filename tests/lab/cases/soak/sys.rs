//! The C library's allocator.
#![allow(unsafe_code)]

/// Returns the bytes allocated and not freed, by all threads and libraries.
pub(super) fn allocated_bytes() -> usize {
    // SAFETY: the function has no arguments and returns a plain struct.
    let info = unsafe { libc::mallinfo2() };
    info.uordblks + info.hblkhd
}

/// Makes all threads use one malloc arena. With an arena per thread, each part of the soak test would use new arenas while the
/// old ones keep their freed memory, so the heap would grow without a leak.
pub(super) fn use_one_malloc_arena() {
    // SAFETY: mallopt takes integers. No other thread allocates yet, and existing allocations stay valid.
    unsafe { libc::mallopt(libc::M_ARENA_MAX, 1) };
}

/// Returns freed heap memory to the kernel.
pub(super) fn trim_heap() {
    // SAFETY: malloc_trim releases only free memory.
    unsafe { libc::malloc_trim(0) };
}

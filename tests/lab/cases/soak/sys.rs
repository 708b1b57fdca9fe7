//! What the C library's allocator knows of this process.
#![allow(unsafe_code)]

/// Bytes that were asked for and not freed, by whatever thread and library.
pub(super) fn allocated_bytes() -> usize {
    // SAFETY: it takes nothing and returns numbers.
    let info = unsafe { libc::mallinfo2() };
    info.uordblks + info.hblkhd
}

/// Has all threads take memory from one place. Of its own one each thread keeps what it ever had at once, megabytes here, and
/// the threads of the next stretch take theirs from others: that grows for a while, though nothing is lost.
pub(super) fn allocate_from_one_place() {
    // SAFETY: no thread but this one allocates yet, and it would only go on where it began.
    unsafe { libc::mallopt(libc::M_ARENA_MAX, 1) };
}

/// Gives the kernel back what was freed and only kept for later.
pub(super) fn give_back_what_is_free() {
    // SAFETY: it touches only memory that belongs to nobody.
    unsafe { libc::malloc_trim(0) };
}

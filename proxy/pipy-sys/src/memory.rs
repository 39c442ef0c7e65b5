//! Memory that was freed, and that the allocator keeps.

/// Gives what this thread has freed back to the operating system. The allocator keeps it otherwise until the thread
/// allocates again, which an idle worker does not. Where another allocator is in use, nothing happens.
///
/// There are two: ours, and the C library's, which the cryptographic library uses for what a TLS connection consists of.
pub fn give_back_memory() {
    // SAFETY: it may be called at any time, from any thread; it frees only what nobody uses.
    unsafe { libmimalloc_sys::mi_collect(true) }
    #[cfg(target_env = "gnu")]
    // SAFETY: it may be called at any time, from any thread (malloc_trim(3)); it gives back only pages that nobody uses.
    unsafe {
        libc::malloc_trim(0);
    }
}

//! Keeping freed memory in the process.

/// Tells glibc's allocator to keep freed memory for the next tensor instead of giving it back to the system, where
/// it would have to be mapped, zeroed and touched again page by page. Call it once, first thing in `main`. Does
/// nothing with other C libraries.
pub fn keep_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: `mallopt` only sets parameters of the allocator; both values are in their documented range.
    #[allow(unsafe_code)]
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 1 << 30);
        libc::mallopt(libc::M_TRIM_THRESHOLD, i32::MAX);
    }
}

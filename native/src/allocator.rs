//! How the C library's allocator deals with the engine's buffers.
//!
//! They are few, large and reused. Left alone, the allocator learns from the first one that is freed to keep
//! such memory in its heaps, one for each thread, where it stays resident in pieces.

/// Buffers from this length on are mapped and unmapped by themselves.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const MAPPED_BYTES_MIN: libc::c_int = 1 << 20;

/// Sets the allocator's parameters, for the whole process.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[allow(unsafe_code)]
pub(crate) fn configure() {
    // SAFETY: `mallopt` takes two numbers and changes parameters under the allocator's own lock.
    unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, MAPPED_BYTES_MIN) };
}

/// Other allocators have no such parameters.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(crate) fn configure() {}

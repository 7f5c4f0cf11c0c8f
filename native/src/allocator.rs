//! How the C library's allocator deals with the engine's buffers.
//!
//! They are few, large and reused. Left alone, the allocator learns from the first one that is freed to keep
//! such memory in its heaps, one for each thread, where it stays resident in pieces. The one very large buffer, in
//! which a key is derived, is asked for in huge pages: to touch it in small ones takes a fifth of every command.

use std::alloc::{GlobalAlloc, Layout, System};

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

/// Only the 64 MiB of scrypt are as long, and all of them are used: huge pages make no process larger.
const HUGE_BYTES_MIN: usize = 48 << 20;

/// The system's allocator, with advice for the largest buffers.
struct Advised;

#[global_allocator]
static ALLOCATOR: Advised = Advised;

// SAFETY: every call is passed on to the system's allocator as it came; advice changes no byte.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Advised {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promises are the system allocator's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        let memory = unsafe { System.alloc_zeroed(layout) };
        if layout.size() >= HUGE_BYTES_MIN && !memory.is_null() {
            advise_huge_pages(memory, layout.size());
        }
        memory
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as above.
        unsafe { System.realloc(memory, layout, size) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(memory, layout) }
    }
}

/// Asks for huge pages within the `length` bytes from `memory`; where there are none, nothing happens.
#[cfg(target_os = "linux")]
#[allow(unsafe_code)]
fn advise_huge_pages(memory: *mut u8, length: usize) {
    const PAGE_BYTES: usize = 4096;
    let skipped = memory.align_offset(PAGE_BYTES);
    if skipped < length {
        // SAFETY: the range lies within the allocation, and the advice changes no byte of it.
        unsafe { libc::madvise(memory.wrapping_add(skipped).cast(), length - skipped, libc::MADV_HUGEPAGE) };
    }
}

/// Other systems choose by themselves.
#[cfg(not(target_os = "linux"))]
fn advise_huge_pages(_memory: *mut u8, _length: usize) {}

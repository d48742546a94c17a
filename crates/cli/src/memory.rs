//! How much freed memory the C library keeps. Owns two settings of its allocator; refuses to replace it.
//!
//! Each thread frees into an arena of its own, and what is freed there in large pieces stays there. With the threads of a
//! server that is a hundred megabytes after a flush, for nothing (docs/decisions/0011-two-arenas.md has the figures).

/// Arenas: more than two are worth nothing to threads that allocate rarely and much at a time.
#[cfg(target_env = "gnu")]
const ARENAS: i32 = 2;
/// Bytes from which a piece is given back to the system as soon as it is freed.
#[cfg(target_env = "gnu")]
const GIVEN_BACK_BYTES: i32 = 4 << 20;

/// To be called before there are threads.
#[cfg(target_env = "gnu")]
#[expect(unsafe_code, reason = "the C library has no other way in; the call touches nothing but its own settings")]
pub(crate) fn set_up() {
    // A refusal changes nothing.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, ARENAS);
        libc::mallopt(libc::M_MMAP_THRESHOLD, GIVEN_BACK_BYTES);
    }
}

/// Other C libraries have no such settings.
#[cfg(not(target_env = "gnu"))]
pub(crate) fn set_up() {}

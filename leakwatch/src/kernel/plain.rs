//! The bridge between the shared types and aya's `Pod`.

use zerocopy::{FromBytes, Immutable, IntoBytes};

/// A shared type as a map key or value.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(super) struct Plain<T>(pub(super) T);

// SAFETY: `Pod` asks that any bytes are a value and that there is no padding; zerocopy's derives have proven both
// for T, and `repr(transparent)` adds nothing.
unsafe impl<T: FromBytes + IntoBytes + Immutable + Copy + 'static> aya::Pod for Plain<T> {}

//! The kernel side, as the user side sees it: load the object, attach, read tables, drain the ring.
//!
//! The only floor that names aya. It knows nothing of Go or of names: it moves descriptors in and figures out.
//! Everything it puts into the kernel is held by file descriptors of this process, so nothing stays behind
//! when we die: no pins, no tracefs events.

mod batch;
mod calibrate;
mod chains;
mod error;
mod machine;
mod object;
mod plain;
mod ring;
mod tables;

pub use calibrate::calibration_points;
pub use chains::thread_pointer;
pub use error::KernelError;
pub use object::{Kernel, KernelLog, LoadedProgram, Options, Tracepoint, Watched};
pub use ring::EventReader;
pub use tables::LiveTask;

//! Reading a whole hash map with few system calls: `BPF_MAP_LOOKUP_BATCH`, which aya 0.14 does not offer.
//!
//! 200,000 entries take 50 calls instead of 400,000.

use std::{
    io,
    os::fd::{AsRawFd as _, BorrowedFd},
};

use zerocopy::{FromBytes, IntoBytes};

/// `BPF_MAP_LOOKUP_BATCH` of include/uapi/linux/bpf.h (Linux 5.6 and later).
const BPF_MAP_LOOKUP_BATCH: libc::c_long = 24;

/// Entries asked for at once. A bucket's worth must fit; the kernel says ENOSPC otherwise and we double it.
const BATCH: u32 = 4096;

/// Give up doubling here: a bucket of a million entries is not a hash table any more.
const MOST: u32 = 1 << 20;

/// The `batch` member of `union bpf_attr`.
#[repr(C)]
#[derive(Default)]
struct BatchAttr {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map_fd: u32,
    elem_flags: u64,
    flags: u64,
}

/// Calls `each` with every entry of a hash map. An entry that is added or removed meanwhile may or may not be
/// seen; one that stays is seen exactly once (`kernel/bpf/hashtab.c`, buckets are read whole).
pub(super) fn for_each<K, V>(fd: BorrowedFd<'_>, mut each: impl FnMut(&K, &V)) -> io::Result<()>
where
    K: FromBytes + IntoBytes + Copy,
    V: FromBytes + IntoBytes + Copy,
{
    let mut size = BATCH;
    let mut keys = vec![K::new_zeroed(); size as usize];
    let mut values = vec![V::new_zeroed(); size as usize];
    // The position is opaque; for hash maps it is a u32 bucket number, and 8 bytes are room enough.
    let mut position = 0_u64;
    let mut first = true;
    loop {
        let mut next = 0_u64;
        let mut attr = BatchAttr {
            in_batch: if first { 0 } else { (&raw const position).addr() as u64 },
            out_batch: (&raw mut next).addr() as u64,
            keys: keys.as_mut_ptr().expose_provenance() as u64,
            values: values.as_mut_ptr().expose_provenance() as u64,
            count: size,
            map_fd: u32::try_from(fd.as_raw_fd()).map_err(io::Error::other)?,
            ..BatchAttr::default()
        };
        // SAFETY: the kernel reads and writes `attr`, writes at most `count` keys and values into buffers of that
        // many elements whose types accept any bytes, and 4 bytes into `next`; all outlive the call.
        let result = unsafe {
            libc::syscall(libc::SYS_bpf, BPF_MAP_LOOKUP_BATCH, &raw mut attr, size_of::<BatchAttr>())
        };
        let error = (result < 0).then(io::Error::last_os_error);
        match error.as_ref().and_then(io::Error::raw_os_error) {
            Some(libc::ENOSPC) if size < MOST => {
                size *= 2;
                keys.resize(size as usize, K::new_zeroed());
                values.resize(size as usize, V::new_zeroed());
                continue;
            }
            None | Some(libc::ENOENT) => {}
            Some(_) => return Err(error.unwrap_or_else(io::Error::last_os_error)),
        }
        let count = attr.count.min(size) as usize;
        for (key, value) in keys.iter().zip(&values).take(count) {
            each(key, value);
        }
        if error.is_some() {
            return Ok(());
        }
        position = next;
        first = false;
    }
}

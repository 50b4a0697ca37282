//! A live process's memory, through `process_vm_readv`: no ptrace, no stop.

use std::{
    io::IoSliceMut,
    ops::Range,
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
};

use nix::{
    errno::Errno,
    sys::uio::{RemoteIoVec, process_vm_readv},
    unistd::Pid,
};

use super::{Memory, ReadError, ReadRequest, Written, written};
use crate::host::{Denied, HostError, Process, process::is_alive};

/// Most vectors in one call: `UIO_MAXIOV` of `include/uapi/linux/uio.h`.
const BATCH: usize = 1024;
/// Vectors in the next call after one that failed at once.
const SMALL_BATCH: usize = 4;

/// The memory of a running process.
///
/// `process_vm_readv` takes a pid, and pids are reused. So each call is followed by a look at the process's
/// pidfd: when the process has ended, what was read may be another's and counts as not read. An `execve` in
/// between cannot be seen here.
#[derive(Debug)]
pub struct ProcessMemory {
    pid: Pid,
    pidfd: Arc<OwnedFd>,
}

impl ProcessMemory {
    /// The memory of this process, if we may read it.
    ///
    /// # Errors
    /// [`HostError::NotPermitted`], [`HostError::Ended`].
    pub fn open(process: &Process) -> Result<Self, HostError> {
        let pid = process.pid();
        let raw = i32::try_from(pid).map_err(|_too_large| HostError::NoSuchProcess { pid })?;
        let memory = Self { pid: Pid::from_raw(raw), pidfd: Arc::clone(process.pidfd()) };
        // Whether we may is asked first, and whether something is there (nothing is) second.
        match memory.read(0, &mut [0]) {
            Err(ReadError::Ended) => Err(HostError::Ended { pid }),
            Err(ReadError::NotPermitted) => {
                Err(HostError::NotPermitted { pid, action: "read the memory", denied: Denied::of_process() })
            }
            _ => Ok(memory),
        }
    }

    fn is_alive(&self) -> bool {
        is_alive(self.pidfd.as_fd())
    }

    /// Several reads as one: whether the process still runs is asked once, after the last of them.
    ///
    /// # Errors
    /// [`ReadError::Ended`], and then nothing that was read is of the process for sure; else what `read` says.
    pub fn in_one_go<T>(
        &self,
        read: impl FnOnce(&Unconfirmed<'_>) -> Result<T, ReadError>,
    ) -> Result<T, ReadError> {
        let done = read(&Unconfirmed(self));
        if self.is_alive() { done } else { Err(ReadError::Ended) }
    }

    fn read_unconfirmed(&self, address: u64, into: &mut [u8]) -> Result<(), ReadError> {
        let length = into.len();
        let remote = [RemoteIoVec { base: to_usize(address), len: length }];
        match process_vm_readv(self.pid, &mut [IoSliceMut::new(into)], &remote) {
            Ok(read) if read == length => Ok(()),
            Ok(_) | Err(Errno::EFAULT) => Err(ReadError::Unmapped { address, length }),
            Err(Errno::ESRCH) => Err(ReadError::Ended),
            Err(Errno::EPERM) => Err(ReadError::NotPermitted),
            Err(errno) => Err(ReadError::Other { address, length, errno: errno as i32 }),
        }
    }

    fn read_many_unconfirmed(&self, requests: &mut [ReadRequest<'_>]) -> usize {
        for request in &mut *requests {
            request.ok = false;
        }
        let mut total = 0;
        let mut rest = &mut *requests;
        let mut size = BATCH;
        while !rest.is_empty() {
            let batch = rest.len().min(size);
            let (now, _) = rest.split_at_mut(batch);
            let served = match self.read_batch(now) {
                Ok(served) => served,
                Err(Errno::EFAULT | Errno::EINVAL) => 0,
                // Ended, not permitted, out of memory: none of the others will do better.
                Err(_) => break,
            };
            total += served;
            // The one that stopped the batch stays marked as failed. Where many fail, long batches are made in vain.
            let (done, next) = if served == batch { (batch, size * 2) } else { (served + 1, served * 2) };
            size = next.clamp(SMALL_BATCH, BATCH);
            rest = rest.split_at_mut(done).1;
        }
        total
    }

    /// Serves requests from the first on until one cannot be served; tells how many were.
    fn read_batch(&self, requests: &mut [ReadRequest<'_>]) -> Result<usize, Errno> {
        let remote: Vec<RemoteIoVec> = requests
            .iter()
            .map(|request| RemoteIoVec { base: to_usize(request.address), len: request.into.len() })
            .collect();
        let mut local: Vec<IoSliceMut<'_>> =
            requests.iter_mut().map(|request| IoSliceMut::new(request.into)).collect();
        let mut bytes = process_vm_readv(self.pid, &mut local, &remote)?;
        let mut served = 0;
        for request in requests {
            // A call that stops short stops within the request that failed.
            let Some(rest) = bytes.checked_sub(request.into.len()) else { break };
            bytes = rest;
            request.ok = true;
            served += 1;
        }
        Ok(served)
    }
}

impl Memory for ProcessMemory {
    fn writable(&self) -> Result<Vec<Written>, ReadError> {
        let mappings = written::mappings(self.pid.as_raw());
        // The pid may have been another process's by then.
        if self.is_alive() { mappings } else { Err(ReadError::Ended) }
    }

    fn touched(&self, addresses: Range<u64>) -> Vec<Range<u64>> {
        // Another process's by then: whoever reads there learns of the end.
        written::touched(self.pid.as_raw(), addresses)
    }

    fn read(&self, address: u64, into: &mut [u8]) -> Result<(), ReadError> {
        self.in_one_go(|memory| memory.read(address, into))
    }

    fn read_many(&self, requests: &mut [ReadRequest<'_>]) -> usize {
        let total = self.read_many_unconfirmed(requests);
        if !self.is_alive() {
            for request in requests {
                request.ok = false;
            }
            return 0;
        }
        total
    }
}

/// A process's memory while somebody reads it in one go, see [`ProcessMemory::in_one_go`].
#[derive(Debug)]
pub struct Unconfirmed<'a>(&'a ProcessMemory);

impl Memory for Unconfirmed<'_> {
    fn writable(&self) -> Result<Vec<Written>, ReadError> {
        self.0.writable()
    }

    fn touched(&self, addresses: Range<u64>) -> Vec<Range<u64>> {
        self.0.touched(addresses)
    }

    fn read(&self, address: u64, into: &mut [u8]) -> Result<(), ReadError> {
        self.0.read_unconfirmed(address, into)
    }

    fn read_many(&self, requests: &mut [ReadRequest<'_>]) -> usize {
        self.0.read_many_unconfirmed(requests)
    }
}

/// Addresses of a 64-bit program fit a 64-bit leakwatch; elsewhere no such address can be read.
fn to_usize(address: u64) -> usize {
    usize::try_from(address).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use std::{
        io::{BufRead, BufReader},
        os::unix::process::CommandExt,
        process::{Command, Stdio},
    };

    use super::*;
    use crate::host::target::Target;

    fn ourselves() -> ProcessMemory {
        let process = Process::open(std::process::id()).expect("ourselves");
        ProcessMemory::open(&process).expect("our memory")
    }

    fn address_of<T>(value: &[T]) -> u64 {
        value.as_ptr() as u64
    }

    #[test]
    fn reads_what_is_there() {
        let words = [1_u64, u64::MAX, 42];
        let memory = ourselves();
        assert_eq!(memory.read_words(address_of(&words), 3, 3), Ok(words.to_vec()));
        assert_eq!(memory.read_u64(address_of(&words) + 16), Ok(42));
        assert_eq!(memory.read_in_order(address_of(&words) + 16, address_of(&words)), Ok((42, 1)));
    }

    #[test]
    fn an_unmapped_address_is_an_error_and_not_zero() {
        let memory = ourselves();
        for address in [0, 8, 0xdead_0000_0000_0000, u64::MAX - 3] {
            assert_eq!(
                memory.read_u64(address),
                Err(ReadError::Unmapped { address, length: 8 }),
                "{address:#x}"
            );
            assert_eq!(
                memory.read_in_order(address_of(&[1_u64]), address),
                Err(ReadError::Unmapped { address, length: 8 })
            );
        }
    }

    #[test]
    fn only_the_unreadable_are_marked() {
        let words: Vec<u64> = (0..5000).collect();
        let memory = ourselves();
        let mut buffers = vec![[0; 8]; words.len()];
        let mut requests: Vec<ReadRequest<'_>> = buffers
            .iter_mut()
            .enumerate()
            .map(|(index, into)| {
                let address = if index % 7 == 3 { 0x10 } else { address_of(&words[index..]) };
                ReadRequest::new(address, into)
            })
            .collect();
        let served = memory.read_many(&mut requests);
        for (index, request) in requests.iter().enumerate() {
            assert_eq!(request.ok, index % 7 != 3, "{index}");
        }
        assert_eq!(served, requests.iter().filter(|request| request.ok).count());
        for (index, bytes) in buffers.iter().enumerate() {
            if index % 7 != 3 {
                assert_eq!(u64::from_le_bytes(*bytes), words[index]);
            }
        }
    }

    #[test]
    fn the_last_may_be_the_bad_one_and_empty_ones_are_fine() {
        let word = [5_u64];
        let memory = ourselves();
        let (mut first, mut last) = ([0; 8], [0; 8]);
        let mut requests = [
            ReadRequest::new(address_of(&word), &mut first),
            ReadRequest::new(0, &mut []),
            ReadRequest::new(0, &mut last),
        ];
        assert_eq!(memory.read_many(&mut requests), 2);
        assert_eq!(requests.each_ref().map(|request| request.ok), [true, true, false]);
        assert_eq!(memory.read_many(&mut []), 0);
    }

    #[test]
    fn a_read_across_the_end_of_a_mapping_fails_as_a_whole() {
        let page = rustix::param::page_size();
        let mut map = memmap2::MmapMut::map_anon(page * 64).expect("map");
        map[page - 4..page + 4].copy_from_slice(&[7; 8]);
        let memory = ourselves();
        let end = address_of(&map[..]) + map.len() as u64;
        let mut across = vec![0; page];
        // What follows the mapping may be mapped too: only a failure is looked at.
        if memory.read_u64(end).is_err() {
            assert!(memory.read(end - 16, &mut across).is_err());
            let (mut one, mut two) = ([0; 32], [0; 8]);
            let mut requests = [
                ReadRequest::new(end - 16, &mut one),
                ReadRequest::new(address_of(&map[page - 4..]), &mut two),
            ];
            assert_eq!(memory.read_many(&mut requests), 1);
            assert!(!requests[0].ok && requests[1].ok);
            assert_eq!(two, [7; 8]);
        }
    }

    #[test]
    fn an_ended_process_gives_nothing() {
        let mut child = Target::sleeping("sleep");
        let process = Process::open(child.pid()).expect("a child");
        let memory = ProcessMemory::open(&process).expect("its memory");
        child.end();
        assert_eq!(memory.read_u64(0x1000), Err(ReadError::Ended));
        let mut into = [0; 8];
        assert_eq!(memory.read_many(&mut [ReadRequest::new(0x1000, &mut into)]), 0);
        assert_eq!(memory.in_one_go(|_| Ok(1)), Err(ReadError::Ended), "whatever was read");
        assert!(matches!(ProcessMemory::open(&process), Err(HostError::Ended { .. })));
    }

    /// Runs as nobody in a child: the test binary is started again with this test's name.
    #[test]
    #[expect(clippy::print_stdout, reason = "the child tells its parent")]
    fn nobody_may_not_read_root() {
        const NAME: &str = "host::memory::process::tests::nobody_may_not_read_root";
        if let Ok(target) = std::env::var("LEAKWATCH_TEST_TARGET") {
            let pid: u32 = target.parse().expect("a pid");
            println!("{}", Process::open(pid).expect_err("not permitted"));
            return;
        }
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let target = Target::sleeping("sleep");
        let mut child = Command::new("/proc/self/exe")
            .args([NAME, "--exact", "--nocapture"])
            .env("LEAKWATCH_TEST_TARGET", target.pid().to_string())
            .uid(65534)
            .gid(65534)
            .stdout(Stdio::piped())
            .spawn()
            .expect("start as nobody");
        let lines: Vec<String> =
            BufReader::new(child.stdout.take().expect("pipe")).lines().map_while(Result::ok).collect();
        child.wait().expect("reap");
        let text = lines.join("\n");
        assert!(text.contains("not permitted without CAP_SYS_PTRACE"), "{text}");
    }
}

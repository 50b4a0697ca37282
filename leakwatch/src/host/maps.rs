//! What is mapped where in a process: `/proc/PID/maps`, and the auxiliary vector that its program was started with.
//!
//! The kernel writes the list a page at a time: it is true line by line, not as a whole.

use std::{ffi::OsString, os::unix::ffi::OsStringExt, path::PathBuf};

use super::{HostError, Process, process::malformed};

/// One mapping.
#[expect(clippy::struct_excessive_bools, reason = "four independent letters of the list")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// First address.
    pub start: u64,
    /// Address after the last.
    pub end: u64,
    /// Where in the file it begins.
    pub offset: u64,
    /// Readable.
    pub read: bool,
    /// Writable.
    pub write: bool,
    /// Executable.
    pub execute: bool,
    /// Shared: writes reach the file.
    pub shared: bool,
    /// Major and minor number of the file's device; (0, 0) without a file. Not what `stat` says on overlays and btrfs.
    pub dev: (u32, u32),
    /// Inode of the file; 0 without one.
    pub inode: u64,
    /// The last column: a file (a newline in its name is written `\012`, ` (deleted)` may follow), `[heap]`, `[vdso]` ...
    pub path: Option<PathBuf>,
}

impl Mapping {
    /// Whether this address is in it.
    pub fn contains(&self, address: u64) -> bool {
        (self.start..self.end).contains(&address)
    }

    /// Which byte of the file is at this address; `None` outside of the mapping or without a file.
    pub fn file_offset(&self, address: u64) -> Option<u64> {
        let file = self.contains(address) && self.inode != 0;
        file.then(|| address.checked_sub(self.start)?.checked_add(self.offset)).flatten()
    }
}

/// The mappings of a process, by address.
///
/// # Errors
/// [`HostError::Ended`], [`HostError::NotPermitted`], or that the list could not be read at all.
pub fn of_process(process: &Process) -> Result<Vec<Mapping>, HostError> {
    let mappings = process.dir().mappings()?;
    if mappings.is_empty() { Err(malformed(process.pid(), "maps")) } else { Ok(mappings) }
}

/// Where in its file the byte at a run-time address stands; `None` when no file is mapped there.
pub fn file_offset(mappings: &[Mapping], address: u64) -> Option<u64> {
    find(mappings, address)?.file_offset(address)
}

/// The mapping that holds an address.
pub fn find(mappings: &[Mapping], address: u64) -> Option<&Mapping> {
    let after = mappings.partition_point(|mapping| mapping.start <= address);
    mappings.get(..after)?.last().filter(|mapping| mapping.contains(address))
}

/// Where the kernel was told to start the program: `AT_ENTRY` of the auxiliary vector, the run-time address of the
/// ELF header's `e_entry`. `None` when the vector has no such entry.
///
/// # Errors
/// [`HostError::Ended`], [`HostError::NotPermitted`].
pub fn entry_address(process: &Process) -> Result<Option<u64>, HostError> {
    // Without memory it has none.
    let parse = |auxv: &[u8]| if auxv.is_empty() { None } else { Some(parse_entry(auxv)) };
    process.dir().look_into(c"auxv", parse)?.ok_or(HostError::Ended { pid: process.pid() })
}

fn parse_entry(auxv: &[u8]) -> Option<u64> {
    const AT_ENTRY: u64 = 9;
    let (pairs, _) = auxv.as_chunks::<16>();
    let number = |bytes: &[u8]| bytes.try_into().map(u64::from_le_bytes).ok();
    pairs.iter().find(|pair| number(&pair[..8]) == Some(AT_ENTRY)).and_then(|pair| number(&pair[8..]))
}

/// Lines that are not mappings are passed over: they are the rest of a name with a newline in it.
pub(super) fn parse(text: &[u8]) -> Vec<Mapping> {
    parse_those(text, |_| true)
}

/// The same of code alone: most are not, and each that is parsed is copied.
pub(super) fn parse_code(text: &[u8]) -> Vec<Mapping> {
    parse_those(text, |line| {
        let permissions = line.splitn(3, |&byte| byte == b' ').nth(1);
        permissions.and_then(|letters| letters.get(2)) == Some(&b'x')
    })
}

fn parse_those(text: &[u8], wanted: impl Fn(&[u8]) -> bool) -> Vec<Mapping> {
    let lines = text.split(|&byte| byte == b'\n').filter(|line| wanted(line));
    let mut mappings: Vec<Mapping> = lines.filter_map(parse_line).collect();
    mappings.sort_by_key(|mapping| mapping.start);
    mappings
}

/// `55d0c0a00000-55d0c0a21000 r-xp 00001000 fe:00 131   /usr/bin/sleep`
fn parse_line(line: &[u8]) -> Option<Mapping> {
    let mut fields = line.splitn(6, |&byte| byte == b' ');
    let mut field = || std::str::from_utf8(fields.next()?).ok();
    let (start, end) = field()?.split_once('-')?;
    let permissions = field()?;
    let offset = hex(field()?)?;
    let (major, minor) = field()?.split_once(':')?;
    let inode = field()?.parse().ok()?;
    let path = fields.next().map(<[u8]>::trim_ascii_start).filter(|path| !path.is_empty());
    let mut letters = permissions.chars();
    let mut is = |letter| letters.next().map(|found| found == letter);
    let mapping = Mapping {
        start: hex(start)?,
        end: hex(end)?,
        offset,
        read: is('r')?,
        write: is('w')?,
        execute: is('x')?,
        shared: is('s')?,
        dev: (u32::from_str_radix(major, 16).ok()?, u32::from_str_radix(minor, 16).ok()?),
        inode,
        path: path.map(|path| PathBuf::from(OsString::from_vec(path.to_vec()))),
    };
    (mapping.start < mapping.end).then_some(mapping)
}

fn hex(text: &str) -> Option<u64> {
    u64::from_str_radix(text, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAPS: &str = "\
00400000-00452000 r-xp 00000000 08:02 173521      /usr/bin/dbus-daemon
00651000-00652000 r--p 00051000 08:02 173521      /usr/bin/dbus-daemon
00e03000-00e24000 rw-p 00000000 00:00 0           [heap]
35b1800000-35b1820000 r-xp 00000000 fd:1f 135522  /tmp/a b\\012c (deleted)
7f0000000000-7f0000001000 rw-s 00001000 00:05 9
ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]
";

    #[test]
    fn every_kind_of_line() {
        let maps = parse(MAPS.as_bytes());
        assert_eq!(maps.len(), 6);
        let [first, _, heap, odd, unnamed, _] = maps.as_slice() else { panic!("{maps:?}") };
        assert!(first.read && first.execute && !first.write && !first.shared);
        assert_eq!((first.dev, first.inode), ((8, 2), 173_521));
        assert_eq!(heap.path.as_deref(), Some("[heap]".as_ref()));
        assert_eq!(odd.path.as_deref(), Some("/tmp/a b\\012c (deleted)".as_ref()));
        assert_eq!(odd.dev, (0xfd, 0x1f));
        assert!(unnamed.shared && unnamed.path.is_none());
    }

    #[test]
    fn offsets_of_addresses() {
        let maps = parse(MAPS.as_bytes());
        assert_eq!(file_offset(&maps, 0x40_1234), Some(0x1234));
        assert_eq!(file_offset(&maps, 0x65_1010), Some(0x5_1010));
        assert_eq!(file_offset(&maps, 0xe0_3000), None, "the heap has no file");
        assert_eq!(file_offset(&maps, 0x45_2000), None, "the end is not in it");
        assert_eq!(file_offset(&maps, 0), None);
    }

    #[test]
    fn nonsense_is_passed_over() {
        let text = "\n-\n1-2\nzz-ff r-xp 0 0:0 0\n10-5 r-xp 0 0:0 0\n1000-2000 r-\nrest of a name\n1000-2000 r-xp 0 0:0 0\n";
        assert_eq!(parse(text.as_bytes()).len(), 1);
        assert!(parse(&[0xff; 64]).is_empty());
    }

    #[test]
    fn our_own() {
        let process = Process::open(std::process::id()).expect("ourselves");
        let maps = of_process(&process).expect("our mappings");
        let code = parse as *const () as u64;
        let mapping = find(&maps, code).expect("our code is mapped");
        assert!(mapping.execute);
        assert_eq!(mapping.path.as_deref(), Some(process.exe().path.as_path()));
        let entry = entry_address(&process).expect("auxv").expect("an entry");
        assert!(find(&maps, entry).is_some_and(|mapping| mapping.execute));
        let _own = parse_entry(&[]).is_none() && parse_entry(&[9; 16]).is_none();
    }
}

//! One value out of a database of bbolt, which is what containerd keeps its containers in, while containerd writes it.
//!
//! The format is that of `page.go`, `db.go` (`meta`) and `bucket.go` of go.etcd.io/bbolt 1.3.6, which has not changed since 2014: pages of
//! one size, numbered; two of them, 0 and 1, are metas that take turns, each with the number of its transaction, the root of
//! a tree of buckets and a checksum. A transaction writes pages that nothing of the last one refers to, then its meta; the one after it
//! may write over what the last one had. So what is read is whole when the newest meta is still the same one afterwards, and nobody
//! has to be locked out for that, which a reader that holds `flock(2)` would do.
//!
//! Foreign input: a page that is not what it should be is an error and never followed further; pages, their sizes and their number are
//! bounded. It must never write, lock or map the file.

use std::io;

/// How often a value is looked for again that containerd wrote over meanwhile: each transaction of it waits for the disk, a look does not.
const TRIES: usize = 16;

/// What a meta begins with, and the only version of the format.
const MAGIC: u32 = 0xED0C_DAED;
const VERSION: u32 = 2;

/// Sizes that pages have: what the machine that made the file has.
const PAGE_SIZES: [u32; 3] = [4 << 10, 16 << 10, 64 << 10];

/// The head of a page, and each of its elements.
const HEAD: usize = 16;
const ELEMENT: usize = 16;

const BRANCH: u16 = 1;
const LEAF: u16 = 2;

/// Flag of an element whose value is a bucket.
const BUCKET: u32 = 1;

/// The largest part of a page that runs over into others: a configuration of a container in it has some tens of kilobytes.
const LARGEST: usize = 4 << 20;

/// Most pages on the way to one value; a tree of a million containers is five deep.
const MOST_PAGES: usize = 64;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BoltError {
    /// It cannot be read.
    #[error("cannot be read: {0}")]
    Read(#[from] io::Error),
    /// It is no database, or a damaged one.
    #[error("is damaged, or no database of bbolt: {0}")]
    Damaged(&'static str),
    /// It was written again each time that it was read.
    #[error("is written too often to be read")]
    Busy,
}

/// The value at the end of this path of buckets; `None`: there is none. `read` fills a buffer from a place in the file.
///
/// # Errors
/// When it cannot be read, is no database, or changes all the time.
pub fn get(
    read: impl Fn(&mut [u8], u64) -> io::Result<()>,
    path: &[&str],
) -> Result<Option<Vec<u8>>, BoltError> {
    for _ in 0..TRIES {
        let meta = Meta::newest(&read)?;
        let found = find(&read, &meta, path);
        if Meta::newest(&read)?.transaction == meta.transaction {
            return found;
        }
    }
    Err(BoltError::Busy)
}

fn find(
    read: &impl Fn(&mut [u8], u64) -> io::Result<()>,
    meta: &Meta,
    path: &[&str],
) -> Result<Option<Vec<u8>>, BoltError> {
    let mut left = MOST_PAGES;
    let mut page_at = |number| {
        left = left.checked_sub(1).ok_or(BoltError::Damaged("a path without end"))?;
        Page::read(read, meta.page_size as usize, number)
    };
    let mut page = page_at(meta.root)?;
    let mut path = path.iter().peekable();
    while let Some(key) = path.next() {
        while page.is_branch {
            page = page_at(page.child(key.as_bytes())?)?;
        }
        let Some((is_bucket, value)) = page.entry(key.as_bytes())? else { return Ok(None) };
        match (path.peek(), is_bucket) {
            (None, false) => return Ok(Some(value.to_vec())),
            (Some(_), true) => {
                // Its root and a number; where there is no root, its one page follows.
                let (Some(root), Some(inline)) = (word(value, 0), value.get(16..)) else {
                    return Err(BoltError::Damaged("a bucket without a root"));
                };
                page = if root == 0 { Page::new(inline.to_vec())? } else { page_at(root)? };
            }
            _ => return Ok(None),
        }
    }
    Ok(None)
}

/// Which tree is the one of now.
struct Meta {
    page_size: u32,
    root: u64,
    transaction: u64,
}

impl Meta {
    const SIZE: usize = 64;

    /// The newer one of those that are whole: at most one is being written.
    fn newest(read: &impl Fn(&mut [u8], u64) -> io::Result<()>) -> Result<Self, BoltError> {
        let at = |offset: u64| {
            let mut bytes = [0; Self::SIZE];
            read(&mut bytes, offset + HEAD as u64).map(|()| Self::parse(&bytes))
        };
        let first = at(0)?;
        // The first one says where the second is. While it is being written, that has to be tried.
        let sizes = first.as_ref().map_or(PAGE_SIZES.to_vec(), |meta| vec![meta.page_size]);
        let second = sizes.into_iter().find_map(|size| at(u64::from(size)).ok().flatten());
        let both = first.into_iter().chain(second);
        both.max_by_key(|meta| meta.transaction).ok_or(BoltError::Damaged("no meta is whole"))
    }

    fn parse(bytes: &[u8; Self::SIZE]) -> Option<Self> {
        let (checked, sum) = bytes.split_at(Self::SIZE - 8);
        let page_size = half(bytes, 8)?;
        let is_one = (half(bytes, 0)?, half(bytes, 4)?) == (MAGIC, VERSION)
            && PAGE_SIZES.contains(&page_size)
            && word(sum, 0)? == fnv(checked);
        is_one.then_some(Self { page_size, root: word(bytes, 16)?, transaction: word(bytes, 48)? })
    }
}

/// A node of the tree.
struct Page {
    bytes: Vec<u8>,
    is_branch: bool,
    count: usize,
}

impl Page {
    fn read(
        read: &impl Fn(&mut [u8], u64) -> io::Result<()>,
        page_size: usize,
        number: u64,
    ) -> Result<Self, BoltError> {
        let none = BoltError::Damaged("a page that is none");
        let Some(offset) = number.checked_mul(page_size as u64) else { return Err(none) };
        let mut bytes = vec![0; page_size];
        read(&mut bytes, offset)?;
        let over = half(&bytes, 12).and_then(|pages| page_size.checked_mul(pages as usize));
        let over = over.filter(|over| word(&bytes, 0) == Some(number) && *over <= LARGEST).ok_or(none)?;
        if over > 0 {
            bytes.resize(page_size + over, 0);
            read(&mut bytes[page_size..], offset.saturating_add(page_size as u64))?;
        }
        Self::new(bytes)
    }

    fn new(bytes: Vec<u8>) -> Result<Self, BoltError> {
        let flags_and_count = half(&bytes, 8).unwrap_or_default().to_le_bytes();
        let [flags, count] =
            [0, 2].map(|at| u16::from_le_bytes([flags_and_count[at], flags_and_count[at + 1]]));
        match flags {
            BRANCH | LEAF => Ok(Self { bytes, is_branch: flags == BRANCH, count: usize::from(count) }),
            _ => Err(BoltError::Damaged("a page of another kind")),
        }
    }

    /// The page below this branch that has the key, if any has: each is listed with the first key that it has.
    fn child(&self, key: &[u8]) -> Result<u64, BoltError> {
        let mut child = None;
        for at in self.elements() {
            let below = word(&self.bytes, at + 8).ok_or(CUT)?;
            if child.is_some() && self.text(at, half(&self.bytes, at), half(&self.bytes, at + 4))? > key {
                break;
            }
            child = Some(below);
        }
        child.ok_or(BoltError::Damaged("a branch without a page below it"))
    }

    /// The value with this key in this leaf, and whether it is a bucket.
    fn entry(&self, key: &[u8]) -> Result<Option<(bool, &[u8])>, BoltError> {
        for at in self.elements() {
            let [flags, place, of_key, of_value] = [0, 4, 8, 12].map(|part| half(&self.bytes, at + part));
            if self.text(at, place, of_key)? == key {
                let place = place.zip(of_key).and_then(|(place, length)| place.checked_add(length));
                return Ok(Some((flags.ok_or(CUT)? & BUCKET != 0, self.text(at, place, of_value)?)));
            }
        }
        Ok(None)
    }

    /// Where its elements are.
    fn elements(&self) -> impl Iterator<Item = usize> + use<> {
        (0..self.count).map(|index| HEAD + index * ELEMENT)
    }

    /// So many bytes, so far behind an element.
    fn text(&self, element: usize, place: Option<u32>, length: Option<u32>) -> Result<&[u8], BoltError> {
        let start = element + place.ok_or(CUT)? as usize;
        self.bytes.get(start..start + length.ok_or(CUT)? as usize).ok_or(CUT)
    }
}

const CUT: BoltError = BoltError::Damaged("a page whose elements are not in it");

fn half(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().map(u32::from_le_bytes).ok()
}

fn word(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..at + 8)?.try_into().map(u64::from_le_bytes).ok()
}

/// FNV-1a, 64 bits wide.
fn fnv(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |sum, &byte| (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
pub(super) mod tests;

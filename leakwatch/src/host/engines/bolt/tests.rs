//! Databases made here in bbolt's format, read back whole, torn and damaged. That of a real containerd is read by
//! `tests/tests/live/containers.rs`.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
};

use proptest::{collection, prelude::*};

use super::*;

const PAGE: usize = 4096;

const META: u16 = 4;

/// What a database has at a path.
#[derive(Clone, Debug)]
pub(in crate::host::engines) enum Node {
    Bucket(BTreeMap<String, Node>),
    Value(Vec<u8>),
}

impl Node {
    /// What is at the end of a path, in buckets around it.
    pub(in crate::host::engines) fn at(path: &[&str], value: Vec<u8>) -> Self {
        path.iter()
            .rev()
            .fold(Self::Value(value), |inner, key| Self::Bucket(BTreeMap::from([((*key).to_owned(), inner)])))
    }

    fn get(&self, path: &[&str]) -> Option<&[u8]> {
        match (self, path.split_first()) {
            (Self::Value(value), None) => Some(value),
            (Self::Bucket(inner), Some((key, rest))) => inner.get(*key)?.get(rest),
            _ => None,
        }
    }
}

/// A database with this in it, as of a transaction; nodes of its trees have at most `most` elements.
pub(in crate::host::engines) fn database(buckets: &Node, most: usize, transaction: u64) -> Vec<u8> {
    let mut writer = Writer { pages: vec![0; 2 * PAGE], most };
    let Node::Bucket(buckets) = buckets else { panic!("no bucket") };
    let elements = writer.elements(buckets);
    let root = writer.tree(elements);
    for (number, transaction) in [transaction.saturating_sub(1), transaction].into_iter().enumerate() {
        let mut meta = Vec::new();
        for half in [MAGIC, VERSION, 4096, 0] {
            meta.extend(half.to_le_bytes());
        }
        for word in [root, 0, 0, (writer.pages.len() / PAGE) as u64, transaction] {
            meta.extend(word.to_le_bytes());
        }
        meta.extend(fnv(&meta).to_le_bytes());
        let page = [head(number as u64, META, 0, 0), meta].concat();
        writer.pages[number * PAGE..][..page.len()].copy_from_slice(&page);
    }
    writer.pages
}

struct Writer {
    pages: Vec<u8>,
    most: usize,
}

/// Flags, key, value or number of a page.
type Element = (u32, Vec<u8>, Vec<u8>);

impl Writer {
    fn elements(&mut self, bucket: &BTreeMap<String, Node>) -> Vec<Element> {
        let mut elements = Vec::new();
        for (key, node) in bucket {
            let (flags, value) = match node {
                Node::Value(value) => (0, value.clone()),
                Node::Bucket(inner) => (BUCKET, self.bucket(inner)),
            };
            elements.push((flags, key.clone().into_bytes(), value));
        }
        elements
    }

    fn bucket(&mut self, bucket: &BTreeMap<String, Node>) -> Vec<u8> {
        let elements = self.elements(bucket);
        let inline = page(0, LEAF, &elements);
        if inline.len() <= PAGE / 4 && elements.iter().all(|(flags, ..)| *flags == 0) {
            return [vec![0; 16], inline].concat();
        }
        let root = self.tree(elements);
        [root.to_le_bytes(), [0; 8]].concat()
    }

    fn tree(&mut self, mut elements: Vec<Element>) -> u64 {
        let mut flags = LEAF;
        loop {
            let pages: Vec<Element> = match elements.len() {
                0 => vec![(0, Vec::new(), self.add(LEAF, &[]))],
                _ => elements.chunks(self.most).map(|of| (0, of[0].1.clone(), self.add(flags, of))).collect(),
            };
            if let [(_, _, root)] = pages.as_slice() {
                return word(root, 0).expect("a number");
            }
            (elements, flags) = (pages, BRANCH);
        }
    }

    fn add(&mut self, flags: u16, elements: &[Element]) -> Vec<u8> {
        let number = (self.pages.len() / PAGE) as u64;
        self.pages.extend(page(number, flags, elements));
        self.pages.resize(self.pages.len().next_multiple_of(PAGE), 0);
        number.to_le_bytes().to_vec()
    }
}

fn head(number: u64, flags: u16, count: usize, over: usize) -> Vec<u8> {
    let count = u16::try_from(count).expect("few");
    let over = u32::try_from(over).expect("few");
    [&number.to_le_bytes()[..], &flags.to_le_bytes(), &count.to_le_bytes(), &over.to_le_bytes()].concat()
}

fn page(number: u64, flags: u16, elements: &[Element]) -> Vec<u8> {
    let half = |number: usize| u32::try_from(number).expect("small").to_le_bytes();
    let (mut heads, mut texts) = (Vec::new(), Vec::new());
    for (index, (flag, key, value)) in elements.iter().enumerate() {
        let place = half((elements.len() - index) * ELEMENT + texts.len());
        texts.extend(key);
        if flags == BRANCH {
            heads.extend([&place, &half(key.len()), &value[..]].concat());
        } else {
            heads.extend([flag.to_le_bytes(), place, half(key.len()), half(value.len())].concat());
            texts.extend(value);
        }
    }
    let size = HEAD + heads.len() + texts.len();
    [head(number, flags, elements.len(), size.div_ceil(PAGE).saturating_sub(1)), heads, texts].concat()
}

fn read(file: &[u8]) -> impl Fn(&mut [u8], u64) -> io::Result<()> {
    |into, at| {
        let bytes = usize::try_from(at).ok().and_then(|at| file.get(at..)?.get(..into.len()));
        into.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

fn trees() -> impl Strategy<Value = Node> {
    let value = collection::vec(any::<u8>(), 0..6000).prop_map(Node::Value);
    let bucket = |inner| collection::btree_map("[a-d]{1,3}", inner, 0..12).prop_map(Node::Bucket);
    bucket(value.prop_recursive(3, 60, 12, bucket).boxed())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn each_value_is_found_and_nothing_else(
        tree in trees(),
        most in 2usize..6,
        paths in collection::vec(collection::vec("[a-d]{1,3}", 0..4), 0..20),
    ) {
        let file = database(&tree, most, 7);
        let mut all: Vec<Vec<String>> = paths;
        let mut open = vec![(Vec::new(), &tree)];
        while let Some((path, node)) = open.pop() {
            if let Node::Bucket(inner) = node {
                open.extend(inner.iter().map(|(key, node)| ([path.clone(), vec![key.clone()]].concat(), node)));
            }
            all.push(path);
        }
        for path in all {
            let path: Vec<&str> = path.iter().map(String::as_str).collect();
            let found = get(read(&file), &path).expect("whole");
            prop_assert_eq!(found.as_deref(), tree.get(&path), "{:?}", path);
        }
    }

    #[test]
    fn damage_is_an_error_or_another_value_and_never_a_panic(
        tree in trees(),
        damage in collection::vec((2 * PAGE..8 * PAGE, any::<u8>()), 1..40),
        cut in any::<proptest::sample::Index>(),
    ) {
        let mut file = database(&tree, 3, 7);
        for (at, byte) in damage {
            if let Some(place) = file.get_mut(at) {
                *place = byte;
            }
        }
        for path in [&["a"][..], &["a", "a"], &["b", "c", "d"]] {
            // It has to come back with something.
            let _answer = get(read(&file), path).is_ok();
            let _cut = get(read(&file[..cut.index(file.len())]), path).is_ok();
        }
    }
}

/// A file that becomes another one after so many reads.
fn turning<'a>(
    before: &'a [u8],
    after: &'a [u8],
    reads: usize,
) -> impl Fn(&mut [u8], u64) -> io::Result<()> + 'a {
    let left = Cell::new(reads);
    move |into, at| {
        let now = if left.get() == 0 { after } else { before };
        left.set(left.get().saturating_sub(1));
        read(now)(into, at)
    }
}

#[test]
fn what_is_written_over_meanwhile_is_read_again() {
    let path = ["v1", "k8s.io", "containers", "id", "image"];
    let value = |text: &str| text.repeat(3000).into_bytes();
    let before = database(&Node::at(&path, value("old")), 4, 6);
    // The same pages with other things in them, of the transaction after the next.
    let mut after = database(&Node::at(&path[1..], value("other")), 4, 8);
    after.resize(before.len(), 0xff);
    for reads in 0..40 {
        let found = get(turning(&before, &after, reads), &path).expect("one of them");
        assert!(found.is_none() || found == Some(value("old")), "after {reads} reads");
    }
    let transaction = RefCell::new(0);
    let restless = |into: &mut [u8], at: u64| {
        *transaction.borrow_mut() += 1;
        read(&database(&Node::at(&path, value("old")), 4, *transaction.borrow()))(into, at)
    };
    assert!(matches!(get(restless, &path), Err(BoltError::Busy)));
}

#[test]
fn a_meta_that_is_half_written_is_passed_over() {
    let file = database(&Node::at(&["v1", "image"], b"nginx".to_vec()), 4, 7);
    let get = |file: &[u8]| get(read(file), &["v1", "image"]);
    for meta in 0..2 {
        let mut torn = file.clone();
        torn[meta * PAGE + HEAD + 60] ^= 1;
        assert_eq!(get(&torn).expect("the other is whole").as_deref(), Some(&b"nginx"[..]), "{meta}");
        torn[(1 - meta) * PAGE + HEAD + 60] ^= 1;
        assert!(matches!(get(&torn), Err(BoltError::Damaged(_))));
    }
    assert!(matches!(get(b""), Err(BoltError::Read(_))));
    assert!(matches!(get(&[0; 8192]), Err(BoltError::Damaged(_))));
}

#[test]
fn a_tree_of_itself_ends() {
    let mut file = database(&Node::at(&["v1", "image"], Vec::new()), 4, 7);
    // Its root becomes a branch with one page below it: itself.
    let root = word(&file, PAGE + HEAD + 16).expect("a root");
    let at = usize::try_from(root).expect("small") * PAGE;
    let own = page(root, BRANCH, &[(0, b"a".to_vec(), root.to_le_bytes().to_vec())]);
    file[at..at + own.len()].copy_from_slice(&own);
    assert!(matches!(get(read(&file), &["v1"]), Err(BoltError::Damaged("a path without end"))));
}

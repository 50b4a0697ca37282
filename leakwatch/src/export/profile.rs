//! Profiles in pprof's form: a gzipped `profile.proto`, as Go's own goroutine profiles are.
//!
//! Fields and their numbers are those of <https://github.com/google/pprof/blob/main/proto/profile.proto>.

use std::io::{self, Read as _, Write};

use flate2::{Compression, read::GzDecoder, write::GzEncoder};
use prost::Message as _;
use rustc_hash::FxHashMap;

use crate::report::dump::{Dump, NamedStack, RuntimeDump, Task};

/// Largest profile that is read, unpacked.
const LARGEST: u64 = 1 << 30;

/// `perftools.profiles.Profile`
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Profile {
    #[prost(message, repeated, tag = "1")]
    pub(super) sample_type: Vec<ValueType>,
    #[prost(message, repeated, tag = "2")]
    pub(super) sample: Vec<Sample>,
    #[prost(message, repeated, tag = "3")]
    pub(super) mapping: Vec<Mapping>,
    #[prost(message, repeated, tag = "4")]
    pub(super) location: Vec<Location>,
    #[prost(message, repeated, tag = "5")]
    pub(super) function: Vec<Function>,
    #[prost(string, repeated, tag = "6")]
    pub(super) string_table: Vec<String>,
    #[prost(int64, tag = "9")]
    pub(super) time_nanos: i64,
    #[prost(message, optional, tag = "11")]
    pub(super) period_type: Option<ValueType>,
    #[prost(int64, tag = "12")]
    pub(super) period: i64,
    #[prost(int64, repeated, tag = "13")]
    pub(super) comment: Vec<i64>,
    #[prost(int64, tag = "14")]
    pub(super) default_sample_type: i64,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(super) struct ValueType {
    #[prost(int64, tag = "1")]
    pub(super) r#type: i64,
    #[prost(int64, tag = "2")]
    pub(super) unit: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Sample {
    #[prost(uint64, repeated, tag = "1")]
    pub(super) location_id: Vec<u64>,
    #[prost(int64, repeated, tag = "2")]
    pub(super) value: Vec<i64>,
    #[prost(message, repeated, tag = "3")]
    pub(super) label: Vec<Label>,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(super) struct Label {
    #[prost(int64, tag = "1")]
    pub(super) key: i64,
    #[prost(int64, tag = "2")]
    pub(super) str: i64,
    #[prost(int64, tag = "3")]
    pub(super) num: i64,
    #[prost(int64, tag = "4")]
    pub(super) num_unit: i64,
}

#[expect(clippy::struct_excessive_bools, reason = "the form is pprof's")]
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(super) struct Mapping {
    #[prost(uint64, tag = "1")]
    pub(super) id: u64,
    #[prost(uint64, tag = "2")]
    pub(super) memory_start: u64,
    #[prost(uint64, tag = "3")]
    pub(super) memory_limit: u64,
    #[prost(uint64, tag = "4")]
    pub(super) file_offset: u64,
    #[prost(int64, tag = "5")]
    pub(super) filename: i64,
    #[prost(int64, tag = "6")]
    pub(super) build_id: i64,
    #[prost(bool, tag = "7")]
    pub(super) has_functions: bool,
    #[prost(bool, tag = "8")]
    pub(super) has_filenames: bool,
    #[prost(bool, tag = "9")]
    pub(super) has_line_numbers: bool,
    #[prost(bool, tag = "10")]
    pub(super) has_inline_frames: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Location {
    #[prost(uint64, tag = "1")]
    pub(super) id: u64,
    #[prost(uint64, tag = "2")]
    pub(super) mapping_id: u64,
    #[prost(uint64, tag = "3")]
    pub(super) address: u64,
    #[prost(message, repeated, tag = "4")]
    pub(super) line: Vec<Line>,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(super) struct Line {
    #[prost(uint64, tag = "1")]
    pub(super) function_id: u64,
    #[prost(int64, tag = "2")]
    pub(super) line: i64,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(super) struct Function {
    #[prost(uint64, tag = "1")]
    pub(super) id: u64,
    #[prost(int64, tag = "2")]
    pub(super) name: i64,
    #[prost(int64, tag = "3")]
    pub(super) system_name: i64,
    #[prost(int64, tag = "4")]
    pub(super) filename: i64,
}

/// Writes a dump as a gzipped profile: a sample for each stack with the same state and labels, its values the number of
/// tasks and the bytes that they hold.
///
/// # Errors
/// When `out` fails.
pub fn write_profile(dump: &Dump, out: &mut dyn Write) -> io::Result<()> {
    let profile = Builder::default().build(dump);
    let mut gzip = GzEncoder::new(out, Compression::fast());
    gzip.write_all(&profile.encode_to_vec())?;
    gzip.finish()?.flush()
}

/// Reads a profile, gzipped or not.
pub(super) fn read_profile(bytes: &[u8]) -> Result<Profile, String> {
    let unpacked;
    let plain = if bytes.starts_with(&[0x1f, 0x8b]) {
        let mut into = Vec::new();
        GzDecoder::new(bytes)
            .take(LARGEST + 1)
            .read_to_end(&mut into)
            .map_err(|error| format!("its gzip stream is damaged ({error})"))?;
        if into.len() as u64 > LARGEST {
            return Err(format!("it is larger than {LARGEST} bytes when unpacked"));
        }
        unpacked = into;
        unpacked.as_slice()
    } else {
        bytes
    };
    Profile::decode(plain).map_err(|error| format!("it is no profile.proto ({error})"))
}

impl Profile {
    /// A string of its table; empty when there is none.
    pub(super) fn string(&self, index: i64) -> &str {
        usize::try_from(index).ok().and_then(|at| self.string_table.get(at)).map_or("", String::as_str)
    }
}

/// What is counted: Go's own profiles of goroutines say so in the singular.
fn unit(dump: &Dump) -> &'static str {
    match dump.runtimes.as_slice() {
        [runtime] if runtime.kind == "go" => "goroutine",
        [runtime] if runtime.kind == "thread" => "thread",
        _ => "task",
    }
}

/// A profile while it is put together.
#[derive(Default)]
struct Builder {
    profile: Profile,
    strings: FxHashMap<String, i64>,
    functions: FxHashMap<(i64, i64), u64>,
}

/// What the tasks of one sample have in common.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    /// Index of the stack; `None`: not readable.
    stack: Option<u32>,
    /// Where they come from, where the stack does not tell.
    site: u32,
    state: u32,
    labels: Option<u32>,
}

impl Builder {
    fn build(mut self, dump: &Dump) -> Profile {
        self.string("");
        let (count, space) = (self.value_type(unit(dump), "count"), self.value_type("stack_space", "bytes"));
        self.profile.sample_type = vec![count, space];
        self.profile.period_type = Some(count);
        self.profile.period = 1;
        self.profile.default_sample_type = count.r#type;
        self.profile.time_nanos = i64::try_from(dump.taken.as_nanosecond()).unwrap_or(0);
        let comment = format!("leakwatch dump of pid {} ({})", dump.process.pid, dump.process.comm);
        let comment = self.string(&comment);
        self.profile.comment = vec![comment];
        for (mapping, id) in dump.process.mappings.iter().zip(1..) {
            let (filename, build_id) =
                (self.string(&mapping.path), self.string(mapping.build_id.as_deref().unwrap_or("")));
            self.profile.mapping.push(Mapping {
                id,
                memory_start: mapping.start,
                memory_limit: mapping.end,
                file_offset: mapping.offset,
                filename,
                build_id,
                has_functions: true,
                has_filenames: true,
                has_line_numbers: true,
                has_inline_frames: true,
            });
        }
        for runtime in &dump.runtimes {
            self.samples_of(runtime);
        }
        self.profile
    }

    fn samples_of(&mut self, runtime: &RuntimeDump) {
        let mut order = Vec::new();
        let mut sums: FxHashMap<Key, (i64, i64)> = FxHashMap::default();
        for task in &runtime.tasks {
            let key = Key::of(task);
            let sum = sums.entry(key).or_insert_with(|| {
                order.push(key);
                (0, 0)
            });
            sum.0 += 1;
            sum.1 = sum.1.saturating_add(i64::try_from(task.bytes.unwrap_or(0)).unwrap_or(0));
        }
        let mut locations = FxHashMap::default();
        let stacks: Vec<Vec<u64>> =
            runtime.stacks.iter().map(|stack| self.locations(runtime, stack, &mut locations)).collect();
        let (state_key, runtime_key) = (self.string("state"), self.string("runtime"));
        let kind = self.string(&runtime.kind);
        for key in order {
            let (count, bytes) = sums.get(&key).copied().unwrap_or_default();
            let stack = key.stack.and_then(|at| stacks.get(at as usize)).cloned();
            let location_id = stack.unwrap_or_else(|| vec![self.unread(runtime, key)]);
            let state = self.string(runtime.states.get(key.state as usize).map_or("", String::as_str));
            let mut label = vec![
                Label { key: state_key, str: state, ..Label::default() },
                Label { key: runtime_key, str: kind, ..Label::default() },
            ];
            let set = key.labels.and_then(|at| runtime.labels.get(at as usize));
            for (name, value) in set.into_iter().flatten() {
                let (name, value) = (self.string(name), self.string(value));
                label.push(Label { key: name, str: value, ..Label::default() });
            }
            self.profile.sample.push(Sample { location_id, value: vec![count, bytes], label });
        }
    }

    /// The locations of a stack, innermost first: one for each address, with all that was inlined there.
    fn locations(
        &mut self,
        runtime: &RuntimeDump,
        stack: &NamedStack,
        known: &mut FxHashMap<(u64, Vec<u32>), u64>,
    ) -> Vec<u64> {
        let mut ids = Vec::new();
        for lines in stack.lines.chunk_by(|a, b| a.pc == b.pc) {
            let frames: Vec<u32> = lines.iter().filter(|line| !line.dull).map(|line| line.frame).collect();
            let pc = lines.first().and_then(|line| stack.pcs.get(line.pc as usize)).copied().unwrap_or(0);
            if frames.is_empty() {
                continue;
            }
            let key = (pc, frames);
            if let Some(&id) = known.get(&key) {
                ids.push(id);
                continue;
            }
            let frames = key.1.iter().filter_map(|&frame| runtime.frames.get(frame as usize));
            let line = frames
                .map(|frame| Line {
                    function_id: self.function(&frame.function, frame.file.as_deref().unwrap_or("")),
                    line: frame.line.map_or(0, i64::from),
                })
                .collect();
            // A return address belongs to the call before it.
            let id = self.location(pc.saturating_sub(1), line);
            known.insert(key, id);
            ids.push(id);
        }
        ids
    }

    /// For a task whose stack was not readable: what it runs.
    fn unread(&mut self, runtime: &RuntimeDump, key: Key) -> u64 {
        let origin = runtime.sites.get(key.site as usize);
        let task = origin.and_then(|origin| origin.task.as_deref()).unwrap_or("?").to_owned();
        let line = vec![Line { function_id: self.function(&task, ""), line: 0 }];
        self.location(0, line)
    }

    fn location(&mut self, address: u64, line: Vec<Line>) -> u64 {
        let holds = |mapping: &&Mapping| (mapping.memory_start..mapping.memory_limit).contains(&address);
        let mapping_id = self.profile.mapping.iter().find(holds).map_or(0, |mapping| mapping.id);
        let id = self.profile.location.len() as u64 + 1;
        self.profile.location.push(Location { id, mapping_id, address, line });
        id
    }

    fn function(&mut self, name: &str, file: &str) -> u64 {
        let (name, filename) = (self.string(name), self.string(file));
        let functions = &mut self.profile.function;
        *self.functions.entry((name, filename)).or_insert_with(|| {
            let id = functions.len() as u64 + 1;
            functions.push(Function { id, name, system_name: name, filename });
            id
        })
    }

    fn string(&mut self, text: &str) -> i64 {
        if let Some(&index) = self.strings.get(text) {
            return index;
        }
        let index = i64::try_from(self.profile.string_table.len()).unwrap_or(0);
        self.profile.string_table.push(text.to_owned());
        self.strings.insert(text.to_owned(), index);
        index
    }

    fn value_type(&mut self, kind: &str, unit: &str) -> ValueType {
        ValueType { r#type: self.string(kind), unit: self.string(unit) }
    }
}

impl Key {
    fn of(task: &Task) -> Self {
        let stack = task.stack_index();
        let site = if stack.is_some() { 0 } else { task.site };
        Self { stack, site, state: task.state, labels: task.labels }
    }
}

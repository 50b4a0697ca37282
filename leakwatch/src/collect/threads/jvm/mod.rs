//! HotSpot in a process: Java frames on native stacks, and which methods and lines they are.
//!
//! A Java frame stands on the thread's own stack, interpreted or compiled. Where its caller is and which method it is of
//! follow from the JVM's tables ([`structs`]), the code cache, and words in the frame; each is checked against another one
//! before it is believed (an interpreted frame's bytecode pointer is in its method's bytecodes). It must never name a
//! method because an address looks like one.

mod structs;

use leakwatch_inspect::jvm::{Scope, line_of, scopes};

use self::structs::Structs;
use crate::{
    host::Memory,
    images::{Frame, Modules, NativeStack, Registers, RuntimeStep},
};

/// Heaps of compiled code; there are three at most.
const MOST_HEAPS: u64 = 16;

/// Bytes of one code cache that its segments may be looked back through.
const LONGEST_BLOB: u64 = 64 << 20;

/// Largest tables that are read.
const LARGEST_TABLE: u64 = 16 << 20;

/// Words of an interpreted frame below its frame pointer (`frame_x86.hpp`, JDK 9 and later): the sender's stack pointer, the method,
/// and the next bytecode.
const SENDER_SP: u64 = 8;
const METHOD: u64 = 3 * 8;
const BYTECODE: u64 = 8 * 8;

/// The JVM of a process.
#[derive(Clone, Debug)]
pub(super) struct Jvm {
    structs: Structs,
}

/// A piece of code in the code cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Blob {
    address: u64,
    kind: BlobKind,
    /// Bytes of its frames, with the return address.
    frame: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BlobKind {
    Interpreter,
    /// Of one method, compiled or a wrapper of a native one.
    Method,
    Other,
}

/// The method of an interpreted frame, and the word that tells where in it.
type Interpreted = (Vec<Frame>, Option<(u64, u64)>);

/// The Java methods of one frame of a native stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct JavaFrame {
    /// Its place in the stack.
    pub(super) index: usize,
    /// Innermost first: several where methods were inlined.
    pub(super) methods: Vec<Frame>,
    /// A word of the stack that tells, besides the return address, where in the method it is: its address and value.
    pub(super) word: Option<(u64, u64)>,
}

impl Jvm {
    /// The JVM that a process runs; `None`: it has none.
    pub(super) fn find(modules: &Modules, memory: &impl Memory) -> Option<Self> {
        Some(Self { structs: Structs::read(modules, memory)? })
    }

    /// The caller of a frame of the code cache.
    pub(super) fn step(
        &self,
        memory: &impl Memory,
        registers: &Registers,
        read: &mut dyn FnMut(u64) -> Option<u64>,
    ) -> Option<RuntimeStep> {
        let blob = self.blob(memory, registers.pc()?)?;
        if blob.kind == BlobKind::Interpreter {
            let fp = registers.fp()?;
            let at = fp.checked_add(8)?;
            let sp = read(fp.checked_sub(SENDER_SP)?).filter(|&sp| sp > fp);
            return Some(RuntimeStep {
                pc: read(at)?,
                at,
                sp: sp.unwrap_or(fp.checked_add(16)?),
                fp: read(fp),
            });
        }
        if blob.frame < 16 {
            return None;
        }
        let sp = registers.sp()?.checked_add(blob.frame)?;
        let at = sp.checked_sub(8)?;
        Some(RuntimeStep { pc: read(at)?, at, sp, fp: read(sp.checked_sub(16)?) })
    }

    /// The Java frames of a stack.
    pub(super) fn frames(
        &self,
        memory: &impl Memory,
        modules: &Modules,
        stack: &NativeStack,
        mut read: impl FnMut(u64) -> Option<u64>,
    ) -> Vec<JavaFrame> {
        let mut found = Vec::new();
        for (index, frame) in stack.frames.iter().enumerate() {
            if !modules.is_anonymous(frame.pc) {
                continue;
            }
            let Some(blob) = self.blob(memory, frame.pc) else { continue };
            let java = match blob.kind {
                BlobKind::Interpreter => {
                    // The caller's return address is above this frame's pointer.
                    let caller = stack.frames.get(index + 1).and_then(|caller| caller.at);
                    caller.and_then(|at| self.interpreted(memory, at.checked_sub(8)?, &mut read))
                }
                BlobKind::Method => self.compiled(memory, blob, frame.pc).map(|methods| (methods, None)),
                BlobKind::Other => None,
            };
            if let Some((methods, word)) = java {
                found.push(JavaFrame { index, methods, word });
            }
        }
        found
    }

    fn interpreted(
        &self,
        memory: &impl Memory,
        fp: u64,
        read: &mut dyn FnMut(u64) -> Option<u64>,
    ) -> Option<Interpreted> {
        let method = read(fp.checked_sub(METHOD)?)?;
        let place = fp.checked_sub(BYTECODE)?;
        let bytecode = read(place)?;
        let named = self.method(memory, method)?;
        let at = bytecode.checked_sub(named.code).filter(|at| *at < u64::from(named.code_size));
        // A native method has no bytecodes.
        if at.is_none() && named.code_size != 0 {
            return None;
        }
        let line = at.and_then(|at| named.line(memory, u32::try_from(at).ok()?));
        let word = at.map(|_| (place, bytecode));
        Some((vec![named.frame(line, false)], word))
    }

    fn compiled(&self, memory: &impl Memory, blob: Blob, pc: u64) -> Option<Vec<Frame>> {
        let s = &self.structs;
        let word = |offset: u64| memory.read_u64(blob.address.checked_add(offset)?).ok();
        let half = |offset: u64| memory.read_u32(blob.address.checked_add(offset)?).ok();
        let method = word(s.at("CompiledMethod._method"))?;
        let whole = self.method(memory, method)?;
        let scopes = self.scopes(memory, blob, pc).unwrap_or_default();
        let list = blob.address.checked_add(u64::from(half(s.at("nmethod._metadata_offset"))?))?;
        let inlined: Option<Vec<Frame>> = scopes
            .iter()
            .enumerate()
            .map(|(depth, scope)| {
                let at = list.checked_add(u64::from(scope.method.checked_sub(1)?) * 8)?;
                let named = self.method(memory, memory.read_u64(at).ok()?)?;
                let line = scope.bytecode.and_then(|bytecode| named.line(memory, bytecode));
                Some(named.frame(line, depth + 1 < scopes.len()))
            })
            .collect();
        // The outermost scope is the compiled method itself: else what was read are not scopes.
        let inlined =
            inlined.filter(|frames| frames.last().is_some_and(|outermost| outermost.function == whole.name));
        Some(inlined.unwrap_or_else(|| vec![whole.frame(None, false)]))
    }

    /// The scopes at a return address of compiled code.
    fn scopes(&self, memory: &impl Memory, blob: Blob, pc: u64) -> Option<Vec<Scope>> {
        let s = &self.structs;
        let word = |offset: u64| memory.read_u64(blob.address.checked_add(offset)?).ok();
        let half = |offset: u64| memory.read_u32(blob.address.checked_add(offset)?).ok().map(u64::from);
        let begin = word(s.at("CodeBlob._code_begin"))?;
        let offset = u32::try_from(pc.checked_sub(begin)?).ok()?;
        let (first, end) =
            (half(s.at("nmethod._scopes_pcs_offset"))?, half(s.at("nmethod._dependencies_offset"))?);
        let places = bytes(memory, blob.address.checked_add(first)?, end.checked_sub(first)?)?;
        let size = usize::try_from(s.size("PcDesc")).ok().filter(|&size| size >= 8)?;
        let (at, decode) = (s.at("PcDesc._pc_offset"), s.at("PcDesc._scope_decode_offset"));
        let field = |place: &[u8], at: u64| {
            let at = usize::try_from(at).ok()?;
            place.get(at..at.checked_add(4)?)?.try_into().ok().map(u32::from_le_bytes)
        };
        let place = places.chunks_exact(size).find(|place| field(place, at) == Some(offset))?;
        let data = word(s.at("CompiledMethod._scopes_data_begin"))?;
        let length = blob.address.checked_add(first)?.checked_sub(data)?;
        Some(scopes(&bytes(memory, data, length)?, field(place, decode)?))
    }

    /// The piece of the code cache that holds an address (`CodeHeap::find_start`).
    fn blob(&self, memory: &impl Memory, pc: u64) -> Option<Blob> {
        let s = &self.structs;
        let word = |base: u64, offset: u64| memory.read_u64(base.checked_add(offset)?).ok();
        let heaps = memory.read_u64(s.at("CodeCache._heaps")).ok()?;
        let count = memory.read_u32(heaps.checked_add(s.at("GrowableArrayBase._len"))?).ok()?;
        let list = word(heaps, s.at("GrowableArray<int>._data"))?;
        for index in 0..u64::from(count).min(MOST_HEAPS) {
            let heap = word(list, index * 8)?;
            let memory_of = heap.checked_add(s.at("CodeHeap._memory"))?;
            let (low, high) =
                (word(memory_of, s.at("VirtualSpace._low"))?, word(memory_of, s.at("VirtualSpace._high"))?);
            if !(low..high).contains(&pc) {
                continue;
            }
            let shift = memory.read_u32(heap.checked_add(s.at("CodeHeap._log2_segment_size"))?).ok()?;
            let segments = word(heap, s.at("CodeHeap._segmap").checked_add(s.at("VirtualSpace._low"))?)?;
            let mut segment = pc.checked_sub(low)?.checked_shr(shift)?;
            let nearest = segment.saturating_sub(LONGEST_BLOB.checked_shr(shift)?);
            loop {
                let mut back = [0];
                memory.read(segments.checked_add(segment)?, &mut back).ok()?;
                match back {
                    [0] => break,
                    // Nothing is there.
                    [0xff] => return None,
                    [back] => segment = segment.checked_sub(u64::from(back)).filter(|&at| at >= nearest)?,
                }
            }
            let address = low.checked_add(segment.checked_shl(shift)?)?.checked_add(s.size("HeapBlock"))?;
            return self.blob_at(memory, address, pc);
        }
        None
    }

    fn blob_at(&self, memory: &impl Memory, address: u64, pc: u64) -> Option<Blob> {
        let s = &self.structs;
        let word = |offset: u64| memory.read_u64(address.checked_add(offset)?).ok();
        let (begin, end) = (word(s.at("CodeBlob._code_begin"))?, word(s.at("CodeBlob._code_end"))?);
        if !(begin..=end).contains(&pc) {
            return None;
        }
        let mut name = [0; 16];
        memory.read(word(s.at("CodeBlob._name"))?, &mut name).ok()?;
        let kind = if name.starts_with(b"Interpreter\0") {
            BlobKind::Interpreter
        } else if name.starts_with(b"nmethod\0") || name.starts_with(b"native nmethod\0") {
            BlobKind::Method
        } else {
            BlobKind::Other
        };
        let words = memory.read_u32(address.checked_add(s.at("CodeBlob._frame_size"))?).ok()?;
        Some(Blob { address, kind, frame: u64::from(words).checked_mul(8)? })
    }

    fn method(&self, memory: &impl Memory, method: u64) -> Option<Method> {
        let s = &self.structs;
        let word = |base: u64, offset: u64| memory.read_u64(base.checked_add(offset)?).ok();
        let short = |base: u64, offset: u64| {
            let mut bytes = [0; 2];
            memory.read(base.checked_add(offset)?, &mut bytes).ok()?;
            Some(u16::from_le_bytes(bytes))
        };
        let constant = word(method, s.at("Method._constMethod"))?;
        let pool = word(constant, s.at("ConstMethod._constants"))?;
        let symbol = |index: u16| {
            let at = s.size("ConstantPool").checked_add(u64::from(index) * 8)?;
            self.symbol(memory, word(pool, at)?)
        };
        let own = symbol(short(constant, s.at("ConstMethod._name_index"))?)?;
        let holder = word(pool, s.at("ConstantPool._pool_holder"))?;
        let class = self.symbol(memory, word(holder, s.at("Klass._name"))?)?;
        let source = short(pool, s.at("ConstantPool._source_file_name_index")).filter(|&index| index != 0);
        let source = source.and_then(symbol);
        let folder = class.rsplit_once('/').map_or("", |(folder, _)| folder);
        let file = source.map(|source| if folder.is_empty() { source } else { format!("{folder}/{source}") });
        let code_size = short(constant, s.at("ConstMethod._code_size"))?;
        let code = constant.checked_add(s.size("ConstMethod"))?;
        let flags = short(constant, s.at("ConstMethod._flags"))?;
        let name = format!("{}.{own}", class.replace('/', "."));
        Some(Method { name, file, code, code_size, has_lines: flags & 1 != 0 })
    }

    fn symbol(&self, memory: &impl Memory, symbol: u64) -> Option<String> {
        let mut length = [0; 2];
        memory.read(symbol.checked_add(self.structs.at("Symbol._length"))?, &mut length).ok()?;
        let mut text = vec![0; usize::from(u16::from_le_bytes(length))];
        memory.read(symbol.checked_add(self.structs.at("Symbol._body"))?, &mut text).ok()?;
        String::from_utf8(text).ok().filter(|text| !text.is_empty())
    }
}

/// A Java method.
struct Method {
    /// With its class.
    name: String,
    file: Option<String>,
    /// Its bytecodes.
    code: u64,
    code_size: u16,
    /// A table of lines is behind them.
    has_lines: bool,
}

impl Method {
    fn line(&self, memory: &impl Memory, bytecode: u32) -> Option<u32> {
        /// Longest table that is read: of a method of 64 KiB of bytecodes it is shorter.
        const LONGEST: u64 = 1 << 17;
        /// It is read piece by piece: how long it is, its end alone tells.
        const PIECE: u64 = 256;
        let start = self.code.checked_add(u64::from(self.code_size)).filter(|_| self.has_lines)?;
        let mut table = Vec::new();
        while (table.len() as u64) < LONGEST {
            let Some(piece) = bytes(memory, start.checked_add(table.len() as u64)?, PIECE) else { break };
            table.extend_from_slice(&piece);
            if let Some(line) = line_of(&table, bytecode) {
                return Some(line);
            }
        }
        line_of(&table, bytecode)
    }

    fn frame(&self, line: Option<u32>, inlined: bool) -> Frame {
        Frame { function: self.name.clone(), file: self.file.clone(), line, inlined, internal: false }
    }
}

fn bytes(memory: &impl Memory, address: u64, length: u64) -> Option<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(length).ok().filter(|_| length <= LARGEST_TABLE)?];
    memory.read(address, &mut bytes).ok()?;
    Some(bytes)
}

/// Whether a method is of Java's own library: it makes threads for others.
pub(super) fn is_library(function: &str) -> bool {
    const PACKAGES: [&str; 5] = ["java.", "javax.", "jdk.", "sun.", "com.sun."];
    PACKAGES.iter().any(|package| function.starts_with(package))
}

/// What a thread runs: the outermost method that is not the machinery of threads or of lambdas.
pub(super) fn routine_of(frames: &[JavaFrame]) -> Option<String> {
    let outermost_first = frames.iter().rev().flat_map(|frame| frame.methods.iter().rev());
    let begin =
        outermost_first.clone().next().filter(|method| method.function.starts_with("java.lang.Thread."))?;
    outermost_first
        .skip_while(|method| *method == begin)
        .map(|method| &method.function)
        .find(|name| !name.starts_with("java.lang.Thread.") && !name.contains("$$Lambda"))
        .cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_thread_runs() {
        let frame = |names: &[&str]| JavaFrame {
            index: 0,
            word: None,
            methods: names
                .iter()
                .map(|name| Frame {
                    function: (*name).to_owned(),
                    file: None,
                    line: None,
                    inlined: false,
                    internal: false,
                })
                .collect(),
        };
        let stack = [
            frame(&["java.util.concurrent.locks.LockSupport.park"]),
            frame(&["app.Main.wait", "app.Main$$Lambda$1.run"]),
            frame(&["java.lang.Thread.run"]),
        ];
        assert_eq!(routine_of(&stack).as_deref(), Some("app.Main.wait"));
        assert_eq!(routine_of(&[]), None);
        assert!(is_library("java.lang.Thread.start") && !is_library("javatest.Main.main"));
    }
}

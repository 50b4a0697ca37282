//! Where HotSpot has things: the tables that it exports for debuggers (`gHotSpotVMStructs` and `gHotSpotVMTypes`,
//! `src/hotspot/share/runtime/vmStructs.cpp`), which give each field's offset in the build that runs.

use leakwatch_inspect::Elf;
use rustc_hash::FxHashMap;

use crate::{
    host::Memory,
    images::{Module, Modules},
};

/// Entries of one table that are read; there are some 2,000.
const MOST_ENTRIES: usize = 1 << 14;

/// Longest name of a type or field.
const LONGEST_NAME: usize = 128;

/// The names of what is needed, as `Type.field`.
const FIELDS: [&str; 29] = [
    "CodeCache._heaps",
    "CodeHeap._memory",
    "CodeHeap._segmap",
    "CodeHeap._log2_segment_size",
    "VirtualSpace._low",
    "VirtualSpace._high",
    "GrowableArrayBase._len",
    "GrowableArray<int>._data",
    "CodeBlob._name",
    "CodeBlob._frame_size",
    "CodeBlob._code_begin",
    "CodeBlob._code_end",
    "CompiledMethod._method",
    "CompiledMethod._scopes_data_begin",
    "nmethod._scopes_pcs_offset",
    "nmethod._dependencies_offset",
    "nmethod._metadata_offset",
    "PcDesc._pc_offset",
    "PcDesc._scope_decode_offset",
    "Method._constMethod",
    "ConstMethod._constants",
    "ConstMethod._flags",
    "ConstMethod._code_size",
    "ConstMethod._name_index",
    "ConstantPool._pool_holder",
    "ConstantPool._source_file_name_index",
    "Klass._name",
    "Symbol._length",
    "Symbol._body",
];

/// The types whose sizes are needed.
const TYPES: [&str; 4] = ["HeapBlock", "PcDesc", "ConstMethod", "ConstantPool"];

/// Offsets of fields, addresses of static ones, and sizes of types, in one JVM.
#[derive(Clone, Debug, Default)]
pub(super) struct Structs {
    fields: FxHashMap<&'static str, u64>,
    sizes: FxHashMap<&'static str, u64>,
}

impl Structs {
    /// Reads the tables; `None`: the process has no JVM, or not one with all that is needed.
    pub(super) fn read(modules: &Modules, memory: &impl Memory) -> Option<Self> {
        let module = modules.all().iter().find(|module| module.file_name() == "libjvm.so")?;
        let tables = Tables::of(module, modules, memory)?;
        let mut structs = Self::default();
        tables.each("Struct", |entry, column| {
            let name = |name: &str| text(memory, memory.read_u64(entry.checked_add(column(name)?)?).ok()?);
            let name = format!("{}.{}", name("TypeName")?, name("FieldName")?);
            if let Some(known) = FIELDS.iter().find(|field| **field == name) {
                let is_static = memory.read_u32(entry.checked_add(column("IsStatic")?)?).ok()? != 0;
                let value = if is_static { "Address" } else { "Offset" };
                let value = memory.read_u64(entry.checked_add(column(value)?)?).ok()?;
                structs.fields.insert(known, value);
            }
            Some(())
        });
        tables.each("Type", |entry, column| {
            let name = text(memory, memory.read_u64(entry.checked_add(column("TypeName")?)?).ok()?)?;
            if let Some(known) = TYPES.iter().find(|known| **known == name) {
                structs.sizes.insert(known, memory.read_u64(entry.checked_add(column("Size")?)?).ok()?);
            }
            Some(())
        });
        let whole = FIELDS.iter().all(|field| structs.fields.contains_key(field))
            && TYPES.iter().all(|known| structs.sizes.contains_key(known));
        whole.then_some(structs)
    }

    /// The offset of a field, or the address of a static one.
    pub(super) fn at(&self, field: &str) -> u64 {
        // All of the list is there, see `read`.
        self.fields.get(field).copied().unwrap_or(0)
    }

    /// The size of a type.
    pub(super) fn size(&self, of: &str) -> u64 {
        self.sizes.get(of).copied().unwrap_or(0)
    }
}

/// The exported variables that lead to the tables.
struct Tables<'a, M> {
    memory: &'a M,
    symbols: FxHashMap<String, u64>,
}

impl<'a, M: Memory> Tables<'a, M> {
    fn of(module: &Module, modules: &Modules, memory: &'a M) -> Option<Self> {
        let bytes = module.open(modules.dir()).ok()?.read().ok()?;
        let elf = Elf::parse(&bytes).ok()?;
        let bias = module.bias(modules.dir())?;
        let mut symbols = FxHashMap::default();
        elf.for_each_symbol(&bytes, |symbol, name| {
            if let Some(name) = name.strip_prefix(b"gHotSpotVM") {
                symbols.insert(String::from_utf8_lossy(name).into_owned(), symbol.address.wrapping_add(bias));
            }
        });
        Some(Self { memory, symbols })
    }

    fn word(&self, name: &str) -> Option<u64> {
        self.memory.read_u64(*self.symbols.get(name)?).ok()
    }

    /// Calls `each` with the address of each entry of a table, and where its columns are. A table ends with an entry
    /// without a type.
    fn each(&self, table: &str, mut each: impl FnMut(u64, &dyn Fn(&str) -> Option<u64>) -> Option<()>) {
        let column = |name: &str| self.word(&format!("{table}Entry{name}Offset"));
        let (Some(mut entry), Some(stride), Some(type_name)) = (
            self.word(&format!("{table}s")),
            self.word(&format!("{table}EntryArrayStride")),
            column("TypeName"),
        ) else {
            return;
        };
        for _ in 0..MOST_ENTRIES {
            let first = entry.checked_add(type_name).and_then(|at| self.memory.read_u64(at).ok());
            if matches!(first, None | Some(0)) {
                return;
            }
            // One that makes no sense is not one of those that are looked for.
            let _read = each(entry, &column);
            let Some(next) = entry.checked_add(stride) else { return };
            entry = next;
        }
    }
}

/// A C string.
fn text(memory: &impl Memory, address: u64) -> Option<String> {
    let mut bytes = Vec::new();
    while bytes.len() < LONGEST_NAME {
        let word = memory.read_u64(address.checked_add(bytes.len() as u64)?).ok()?.to_le_bytes();
        let end = word.iter().position(|byte| *byte == 0);
        bytes.extend_from_slice(word.get(..end.unwrap_or(8))?);
        if end.is_some() {
            return String::from_utf8(bytes).ok();
        }
    }
    None
}

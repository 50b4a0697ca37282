//! gopclntab: the function table, names, file:line and inlined frames of every pc. Survives `strip`.
//!
//! Header formats from Go's `src/internal/abi/symtab.go`, `src/runtime/symtab.go`, `src/debug/gosym/pclntab.go`.

use std::ops::Range;

/// Where the tables stand and in which format; small, owned, kept with the facts. Make a [`Pclntab`] of it and
/// the image to look things up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PclntabLocation {
    /// Link-time address of the header.
    pub address: u64,
    /// Its bytes in the file.
    pub file: Range<u64>,
    /// `runtime.text`: what function entry offsets are relative to (not `.text` in external links).
    pub text_start: u64,
    /// `runtime.etext`, or the end of the last function.
    pub text_end: u64,
    /// First Go version that has this header format: 16, 18 or 20 (for 1.16, 1.18, 1.20 and later).
    pub format: u8,
    /// Number of functions.
    pub functions: u32,
    /// Address and file range of `go:func.*` (moduledata.gofunc), which inline trees are relative to.
    pub gofunc: Option<u64>,
}

/// A function of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function<'a> {
    /// Full linker name, such as `main.(*Server).accept.func1` or `main.worker[go.shape.int]`.
    pub name: &'a str,
    /// Link-time address of the first instruction.
    pub entry: u64,
    /// Address of the next function's entry.
    pub end: u64,
}

/// One frame of a pc; a pc in inlined code has several, innermost first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Function name as in [`Function::name`].
    pub function: &'a str,
    /// Source file as recorded (absolute, or module path with -trimpath). `None`: not recorded.
    pub file: Option<&'a str>,
    /// Source line. `None`: not recorded.
    pub line: Option<u32>,
    /// This frame was inlined into the next one.
    pub inlined: bool,
}

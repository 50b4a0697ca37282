//! Go versions: parsing, ordering, and finding the one a binary was built with.

/// A Go release, such as 1.26.3 or 1.23rc1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GoVersion {
    /// As the toolchain prints it, such as `go1.26.3` or `go1.23rc1 X:nocoverageredesign`.
    pub text: String,
    /// 1 in 1.26.3.
    pub major: u16,
    /// 26 in 1.26.3.
    pub minor: u16,
    /// 3 in 1.26.3; 0 where none is written.
    pub patch: u16,
}

//! Names as people wrote them: Rust's and C++'s symbols demangled, C's and all others as they are.
//!
//! Must never fail and never recurse without a bound on a hostile symbol: what does not demangle stays as it is.

use std::borrow::Cow;

/// Symbols longer than this are left as they are; the longest real ones have some thousand bytes.
const LONGEST: usize = 16 << 10;

/// A symbol as it was written, Rust's without the hash.
pub fn demangle(symbol: &str) -> Cow<'_, str> {
    // A copy that the linker named after its version is the same function: `pthread_create@@GLIBC_2.34`.
    let symbol =
        symbol.split_once('@').map_or(symbol, |(name, _)| if name.is_empty() { symbol } else { name });
    if symbol.len() > LONGEST {
        return Cow::Borrowed(symbol);
    }
    if let Ok(rust) = rustc_demangle::try_demangle(symbol) {
        return Cow::Owned(format!("{rust:#}"));
    }
    if !symbol.starts_with("_Z") {
        return Cow::Borrowed(symbol);
    }
    let options = cpp_demangle::DemangleOptions::default();
    let cpp =
        cpp_demangle::Symbol::new(symbol).ok().and_then(|parsed| parsed.demangle_with_options(&options).ok());
    cpp.map_or(Cow::Borrowed(symbol), Cow::Owned)
}

/// A C++ or Rust name without its parameters: what a person types for a function, `Pool::get` for
/// `Pool::get(int) const`.
pub fn without_parameters(name: &str) -> &str {
    // Parameters begin at the first parenthesis that is not inside template arguments and not `operator()` or
    // `(anonymous namespace)`.
    let mut depth = 0_i32;
    for (at, letter) in name.char_indices() {
        let before = name.get(..at).unwrap_or_default();
        let after = name.get(at..).unwrap_or_default();
        match letter {
            '<' if !before.ends_with("operator") && !before.ends_with("operator<") => depth += 1,
            '>' if !before.ends_with('-') && !before.ends_with("operator") => depth -= 1,
            '(' if depth <= 0
                && !before.ends_with("operator")
                && !after.starts_with("(anonymous namespace)")
                && at > 0 =>
            {
                return before;
            }
            _ => {}
        }
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_language() {
        assert_eq!(demangle("malloc"), "malloc");
        assert_eq!(demangle("pthread_create@@GLIBC_2.34"), "pthread_create");
        assert_eq!(demangle("_ZN4Pool3getEi"), "Pool::get(int)");
        assert_eq!(demangle("_ZN3foo3bar17h05af221e174051e9E"), "foo::bar");
        assert_eq!(demangle("_RNvC6_123foo3bar"), "123foo::bar");
        assert_eq!(demangle("_Znonsense"), "_Znonsense");
        assert_eq!(demangle(""), "");
        let long = format!("_Z{}", "1".repeat(LONGEST));
        assert_eq!(demangle(&long), long);
    }

    #[test]
    fn parameters_are_left_out() {
        assert_eq!(without_parameters("Pool::get(int) const"), "Pool::get");
        assert_eq!(without_parameters("Pool<void (int)>::get(int)"), "Pool<void (int)>::get");
        assert_eq!(without_parameters("Pool::operator()(int)"), "Pool::operator()");
        assert_eq!(without_parameters("(anonymous namespace)::get(int)"), "(anonymous namespace)::get");
        assert_eq!(without_parameters("alloc::vec::Vec<T>::push"), "alloc::vec::Vec<T>::push");
        assert_eq!(without_parameters("malloc"), "malloc");
    }
}

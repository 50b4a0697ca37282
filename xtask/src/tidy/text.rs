//! Checks that need little more than a file's text: length, module docs, names, leftovers, and words that would
//! tie the repository to one machine.

use super::{Finding, imports, is_rust};

/// The longest a Rust file may be, its tests apart. The aim is 500.
const MOST_LINES: usize = 800;

/// Module names that say nothing.
const EMPTY_NAMES: [&str; 7] = ["common", "helper", "helpers", "misc", "shared", "util", "utils"];

/// Folders with bytes that are kept as they were recorded, or as others made them.
const RECORDED: [&str; 5] = ["tests/fixtures/", "fuzz/corpus/", "/snapshots/", "/testdata/", "/vendor/"];

/// Words that name a machine's folders or a registry's host. Split, so that this file is none of them.
const MACHINE: &[(&str, &str)] = &[
    (concat!("/ro", "ot/"), "a folder of one machine"),
    (concat!("/wo", "rk/"), "a folder of one machine"),
    (concat!("/tmp/tar", "get"), "a folder of one machine"),
    (concat!("index.crates", ".io"), "a registry's host"),
    (concat!("static.crates", ".io"), "a registry's host"),
    (concat!("//crates", ".io"), "a registry's host"),
    (concat!("pypi", ".org"), "a registry's host"),
    (concat!("files.python", "hosted"), "a registry's host"),
    (concat!("registry.npm", "js"), "a registry's host"),
    (concat!("proxy.go", "lang.org"), "a registry's host"),
    (concat!("static.rust-", "lang.org"), "a registry's host"),
    (concat!("deb.deb", "ian.org"), "a registry's host"),
];

/// How every lock file names the crate registry; not a host that we chose to name.
const LOCK_SOURCE: &str = concat!("github.com/rust-lang/crates", ".io-index");

/// Checks any text file.
pub(super) fn check(file: &str, content: &str) -> Vec<Finding> {
    if RECORDED.iter().any(|place| file.contains(place)) {
        return Vec::new();
    }
    let mut findings = Vec::new();
    for (number, line) in (1..).zip(content.lines()) {
        if line.ends_with([' ', '\t']) {
            findings.push(Finding::new(file, number, "white space at the end of the line"));
        }
        let named = line.replace(LOCK_SOURCE, "");
        for (word, what) in MACHINE {
            if names(&named, word) {
                findings.push(Finding::new(
                    file,
                    number,
                    format!("`{word}` is {what}: it has no place in the repository"),
                ));
            }
        }
        if is_rust(file) && line.trim_start().starts_with(concat!("#[", "ignore")) {
            findings.push(Finding::new(
                file,
                number,
                "an ignored test proves nothing: gate it, or remove it",
            ));
        }
    }
    if !content.is_empty() && !content.ends_with('\n') {
        findings.push(Finding::new(file, 0, "the last line does not end"));
    }
    findings
}

/// Whether `line` has `word`, not as the end of a longer path.
fn names(line: &str, word: &str) -> bool {
    let longer = |c: char| c.is_alphanumeric() || "/_-.}".contains(c);
    line.match_indices(word)
        .any(|(at, _)| !word.starts_with('/') || !line.get(..at).unwrap_or("").ends_with(longer))
}

/// Checks a Rust file.
pub(super) fn check_rust(file: &str, content: &str, parsed: &syn::File) -> Vec<Finding> {
    let mut findings = Vec::new();
    let docs: Vec<String> = parsed.attrs.iter().filter_map(doc_line).collect();
    let says_something = docs.iter().any(|line| line.split_whitespace().count() > 1);
    let is_test_module = file.ends_with("/tests.rs");
    if !says_something && !is_test_module {
        findings.push(Finding::new(file, 0, "does not open with `//!`: say what the module is for"));
    }
    let tests: usize = parsed.items.iter().filter_map(test_lines).sum();
    let lines = content.lines().count().saturating_sub(tests);
    if lines > MOST_LINES && !is_test_module && !file.contains("/tests/") {
        findings.push(Finding::new(
            file,
            0,
            format!("{lines} lines without tests, at most {MOST_LINES}: split it"),
        ));
    }
    let mut names = file.trim_end_matches(".rs").rsplit('/');
    if let Some(name) = names.find(|name| *name != "mod")
        && EMPTY_NAMES.contains(&name)
    {
        findings.push(Finding::new(
            file,
            0,
            format!("`{name}` says nothing: name the thing that the module is about"),
        ));
    }
    findings
}

fn doc_line(attribute: &syn::Attribute) -> Option<String> {
    let syn::Meta::NameValue(pair) = &attribute.meta else { return None };
    let syn::Expr::Lit(literal) = &pair.value else { return None };
    let syn::Lit::Str(text) = &literal.lit else { return None };
    (pair.path.is_ident("doc") && matches!(attribute.style, syn::AttrStyle::Inner(_))).then(|| text.value())
}

/// The length of an item that only tests see.
fn test_lines(item: &syn::Item) -> Option<usize> {
    let span = syn::spanned::Spanned::span(item);
    imports::is_test_only(imports::attributes_of(item))
        .then(|| span.end().line.saturating_sub(span.start().line))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(file: &str, content: &str) -> Vec<String> {
        let mut findings = check(file, content);
        if is_rust(file) {
            findings.extend(check_rust(
                file,
                content,
                &syn::parse_file(content).expect("the snippet parses"),
            ));
        }
        findings.into_iter().map(|finding| finding.to_string()).collect()
    }

    #[track_caller]
    fn refused(file: &str, content: &str, wanted: &str) {
        let findings = findings(file, content);
        assert!(findings.iter().any(|finding| finding.contains(wanted)), "{wanted:?} is not in {findings:?}");
    }

    #[test]
    fn a_tidy_file_passes() {
        assert!(findings("a/src/b.rs", "//! Sums figures up.\nfn f() {}\n").is_empty());
        assert!(findings("a/src/b.rs", "//! Sums figures up.\n#![no_std]\n").is_empty());
    }

    #[test]
    fn leftovers_are_named() {
        refused("README.md", "a \nb\n", "README.md:1: white space");
        refused("README.md", "a", "the last line does not end");
        refused(
            "a.rs",
            concat!("//! Sums figures up.\n#[", "ignore]\nfn f() {}\n"),
            "a.rs:2: an ignored test",
        );
        refused("a.md", concat!("see /ro", "ot/x\n"), "a folder of one machine");
        refused("a.toml", concat!("url = \"https://index.crates", ".io/\"\n"), "a registry's host");
    }

    #[test]
    fn a_folder_of_that_name_elsewhere_is_fine() {
        assert!(findings("a.md", concat!("`/proc/PID/ro", "ot/PATH`\n")).is_empty());
        refused("a.md", concat!("https://pypi", ".org/x\n"), "a registry's host");
    }

    #[test]
    fn a_lock_file_may_name_its_source() {
        let line = concat!("source = \"registry+https://github.com/rust-lang/crates", ".io-index\"\n");
        assert!(findings("Cargo.lock", line).is_empty());
    }

    #[test]
    fn recorded_bytes_are_left_alone() {
        assert!(findings("tests/fixtures/a.txt", "a \n").is_empty());
    }

    #[test]
    fn a_module_says_what_it_is_for() {
        refused("a/src/b.rs", "fn f() {}\n", "does not open with `//!`");
        refused("a/src/b.rs", "//! placeholder\nfn f() {}\n", "does not open with `//!`");
        refused("a/src/b.rs", "/// Only the item has one.\nfn f() {}\n", "does not open with `//!`");
        refused("a/src/utils.rs", "//! Sums figures up.\n", "`utils` says nothing");
        refused("a/src/shared/mod.rs", "//! Sums figures up.\n", "`shared` says nothing");
    }

    #[test]
    fn length_is_counted_without_tests() {
        let long = "//! Sums figures up.\n".to_owned() + &"const _: () = ();\n".repeat(MOST_LINES);
        refused("a/src/b.rs", &long, "801 lines without tests");
        let tests = "const _: () = ();\n".repeat(MOST_LINES);
        let tested = format!("//! Sums figures up.\n#[cfg(test)]\nmod tests {{\n{tests}}}\n");
        assert!(findings("a/src/b.rs", &tested).is_empty());
    }
}

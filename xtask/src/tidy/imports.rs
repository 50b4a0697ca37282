//! Finds every path that a Rust file names, wherever it stands: `use` trees, types, calls, attributes, and the
//! unparsed words inside macros.
//!
//! Code that only tests see is left out. Resolves `crate`, `self` and `super`; knows nothing of what is allowed.

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use syn::visit::{self, Visit};
use syn::{Attribute, ImplItem, Item, UseTree};

/// A path in the code, and where it leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reference {
    /// Absolute for paths within the crate, as written for all others.
    pub(super) target: Target,
    pub(super) line: usize,
}

/// Where a path leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// Into the own crate; the segments after `crate`. `*` is a glob.
    Own(Vec<String>),
    /// Anything else: another crate, or a name brought in by a `use`.
    Other(Vec<String>),
}

/// What one file names, and what else the floors ask about.
#[derive(Debug, Default)]
pub(super) struct Facts {
    pub(super) references: Vec<Reference>,
    /// Lines of `unsafe` blocks, functions and impls, and of the word inside macros.
    pub(super) unsafe_lines: Vec<usize>,
    /// Lines of modules with a `#[path]`.
    pub(super) moved_modules: Vec<usize>,
}

/// Reads a file that is the module `module` (the segments after `crate`).
pub(super) fn facts(file: &syn::File, module: &[String]) -> Facts {
    let mut visitor = Visitor { module: module.to_vec(), facts: Facts::default() };
    visitor.visit_file(file);
    visitor.facts
}

/// Whether the attributes leave the item out of everything but test builds.
pub(super) fn is_test_only(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        if attribute.path().is_ident("test") {
            return true;
        }
        attribute.path().is_ident("cfg")
            && attribute.parse_args::<syn::Path>().is_ok_and(|path| path.is_ident("test"))
    })
}

/// The attributes of an item, whatever kind it is.
pub(super) fn attributes_of(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::ExternCrate(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::ForeignMod(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Union(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

struct Visitor {
    module: Vec<String>,
    facts: Facts,
}

impl Visitor {
    fn record(&mut self, segments: Vec<String>, leading_colon: bool, line: usize) {
        if let Some(target) = self.resolve(segments, leading_colon) {
            self.facts.references.push(Reference { target, line });
        }
    }

    fn resolve(&self, segments: Vec<String>, leading_colon: bool) -> Option<Target> {
        let first = segments.first()?.as_str();
        if leading_colon || !matches!(first, "crate" | "self" | "super") {
            return Some(Target::Other(segments));
        }
        let mut absolute = if first == "crate" { Vec::new() } else { self.module.clone() };
        let mut rest = segments.as_slice();
        while let Some((segment, behind)) = rest.split_first() {
            match segment.as_str() {
                "crate" | "self" => {}
                "super" => drop(absolute.pop()),
                _ => break,
            }
            rest = behind;
        }
        absolute.extend_from_slice(rest);
        Some(Target::Own(absolute))
    }

    fn use_tree(&mut self, tree: &UseTree, prefix: &[String], leading_colon: bool) {
        let with = |name: String| prefix.iter().cloned().chain([name]).collect::<Vec<_>>();
        match tree {
            UseTree::Path(path) => self.use_tree(&path.tree, &with(path.ident.to_string()), leading_colon),
            UseTree::Group(group) => {
                for tree in &group.items {
                    self.use_tree(tree, prefix, leading_colon);
                }
            }
            UseTree::Name(name) => {
                self.record(with(name.ident.to_string()), leading_colon, line_of(&name.ident));
            }
            UseTree::Rename(name) => {
                self.record(with(name.ident.to_string()), leading_colon, line_of(&name.ident));
            }
            UseTree::Glob(glob) => {
                let line = glob.star_token.spans[0].start().line;
                self.record(with("*".to_owned()), leading_colon, line);
            }
        }
    }

    /// Paths in words that nothing has parsed: what macros are called with.
    fn tokens(&mut self, tokens: &TokenStream) {
        let mut segments: Vec<String> = Vec::new();
        let mut line = 0;
        let mut colons = 0;
        let mut leading_colon = false;
        // The extra turn at the end flushes what is open.
        for tree in tokens.clone().into_iter().map(Some).chain([None]) {
            match &tree {
                Some(TokenTree::Punct(punct)) if punct.as_char() == ':' => {
                    colons += 1;
                    continue;
                }
                Some(TokenTree::Ident(ident)) if colons == 2 || segments.is_empty() => {
                    if segments.is_empty() {
                        line = line_of(ident);
                        leading_colon = colons == 2;
                    }
                    segments.push(ident.to_string());
                    colons = 0;
                    continue;
                }
                // A `use` with a group, inside a macro.
                Some(TokenTree::Group(group)) if colons == 2 && group.delimiter() == Delimiter::Brace => {
                    if let Ok(tree) = syn::parse2::<UseTree>(TokenTree::from(group.clone()).into()) {
                        self.use_tree(&tree, &segments, leading_colon);
                    }
                    segments.clear();
                    colons = 0;
                    continue;
                }
                _ => {}
            }
            self.flush(&mut segments, leading_colon, line);
            colons = 0;
            match &tree {
                Some(TokenTree::Ident(ident)) => {
                    line = line_of(ident);
                    leading_colon = false;
                    segments.push(ident.to_string());
                }
                Some(TokenTree::Group(group)) => self.tokens(&group.stream()),
                _ => {}
            }
        }
    }

    fn flush(&mut self, segments: &mut Vec<String>, leading_colon: bool, line: usize) {
        let path = std::mem::take(segments);
        if path.first().is_some_and(|word| word == "unsafe") {
            self.facts.unsafe_lines.push(line);
        }
        if path.len() > 1 {
            self.record(path, leading_colon, line);
        }
    }
}

fn line_of(ident: &proc_macro2::Ident) -> usize {
    ident.span().start().line
}

impl<'ast> Visit<'ast> for Visitor {
    fn visit_item(&mut self, item: &'ast Item) {
        if !is_test_only(attributes_of(item)) {
            visit::visit_item(self, item);
        }
    }

    fn visit_impl_item(&mut self, item: &'ast ImplItem) {
        let test_only = matches!(item, ImplItem::Fn(function) if is_test_only(&function.attrs));
        if !test_only {
            visit::visit_impl_item(self, item);
        }
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        if item.attrs.iter().any(|attribute| attribute.path().is_ident("path")) {
            self.facts.moved_modules.push(line_of(&item.ident));
        }
        self.module.push(item.ident.to_string());
        visit::visit_item_mod(self, item);
        self.module.pop();
    }

    fn visit_item_extern_crate(&mut self, item: &'ast syn::ItemExternCrate) {
        self.record(vec![item.ident.to_string()], true, line_of(&item.ident));
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.use_tree(&item.tree, &[], item.leading_colon.is_some());
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        if let (true, Some(first)) = (path.segments.len() > 1, path.segments.first()) {
            let segments = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
            self.record(segments, path.leading_colon.is_some(), line_of(&first.ident));
        }
        visit::visit_path(self, path);
    }

    fn visit_vis_restricted(&mut self, _: &'ast syn::VisRestricted) {
        // `pub(in crate::x)` names no dependency.
    }

    fn visit_macro(&mut self, mac: &'ast syn::Macro) {
        self.tokens(&mac.tokens);
        visit::visit_macro(self, mac);
    }

    fn visit_meta_list(&mut self, list: &'ast syn::MetaList) {
        self.tokens(&list.tokens);
        visit::visit_meta_list(self, list);
    }

    fn visit_expr_unsafe(&mut self, block: &'ast syn::ExprUnsafe) {
        self.facts.unsafe_lines.push(block.unsafe_token.span.start().line);
        visit::visit_expr_unsafe(self, block);
    }

    fn visit_signature(&mut self, signature: &'ast syn::Signature) {
        if matches!(signature.safety, syn::Safety::Unsafe(_)) {
            self.facts.unsafe_lines.push(line_of(&signature.ident));
        }
        visit::visit_signature(self, signature);
    }

    fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
        if let Some(word) = &item.unsafety {
            self.facts.unsafe_lines.push(word.span.start().line);
        }
        visit::visit_item_impl(self, item);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(source: &str, module: &str) -> Vec<String> {
        let file = syn::parse_file(source).expect("the snippet parses");
        let module: Vec<String> =
            module.split("::").filter(|name| !name.is_empty()).map(str::to_owned).collect();
        facts(&file, &module)
            .references
            .into_iter()
            .map(|reference| match reference.target {
                Target::Own(path) => format!("crate::{}", path.join("::")),
                Target::Other(path) => path.join("::"),
            })
            .collect()
    }

    #[test]
    fn use_trees_are_flattened() {
        let found =
            paths("use crate::{a::{self, b as c}, d::*}; use super::super::e; pub use self::f::G;", "x::y");
        assert_eq!(found, ["crate::a::self", "crate::a::b", "crate::d::*", "crate::e", "crate::x::y::f::G"]);
    }

    #[test]
    fn paths_outside_use_are_found() {
        let source = "
            fn f(x: crate::a::T) -> impl Iterator<Item = super::b::U> { crate::c::new::<crate::d::V>(x) }
            #[derive(serde::Serialize)] struct S;
            #[tokio::main] async fn g() { aya::include_bytes_aligned!(\"x\") }
            impl crate::e::Trait for S { const N: usize = <crate::h::W as crate::i::Len>::N; }
        ";
        let found = paths(source, "x");
        for wanted in [
            "crate::a::T",
            "crate::b::U",
            "crate::c::new",
            "crate::d::V",
            "serde::Serialize",
            "tokio::main",
            "aya::include_bytes_aligned",
            "crate::e::Trait",
            "crate::h::W",
        ] {
            assert!(found.iter().any(|path| path == wanted), "{wanted} is not in {found:?}");
        }
        assert!(found.iter().any(|path| path.starts_with("crate::i::Len")), "{found:?}");
    }

    #[test]
    fn macro_arguments_are_searched() {
        let source = "fn f() { println!(\"{}\", crate::a::b(vec![super::c::D { e: ::aya::F }])); m!(if x {crate::g::H}) }";
        assert_eq!(paths(source, "x::y"), ["crate::a::b", "crate::x::c::D", "aya::F", "crate::g::H"]);
        assert_eq!(paths("m! { use crate::{a::B, c}; x }", "x"), ["crate::a::B", "crate::c"]);
    }

    #[test]
    fn inline_modules_shift_super() {
        assert_eq!(
            paths("mod inner { use super::super::z; fn f() { super::w::v() } }", "x"),
            ["crate::z", "crate::x::w::v"]
        );
    }

    #[test]
    fn code_for_tests_only_is_left_out() {
        let source = "
            #[cfg(test)] mod tests { use crate::a::B; }
            #[cfg(test)] use crate::c::D;
            #[cfg(test)] fn f() { crate::e::g() }
            struct S; impl S { #[cfg(test)] fn h() { crate::i::j() } }
            #[cfg(not(test))] use crate::k::L;
        ";
        assert_eq!(paths(source, "x"), ["crate::k::L"]);
    }

    #[test]
    fn unsafe_is_seen() {
        let source = "fn f() { unsafe { g() } }\nunsafe fn h() {}\nunsafe impl Send for S {}\nfn i() { m!(unsafe { g() }) }";
        let file = syn::parse_file(source).expect("the snippet parses");
        let mut lines = facts(&file, &[]).unsafe_lines;
        lines.sort_unstable();
        assert_eq!(lines, [1, 2, 3, 4]);
    }
}

//! The one list of what the kernel side counts is complete, in order, and every entry of it is raised.
//!
//! A variant that is missing from `Counter::ALL` would compile and never be read.

use std::collections::BTreeSet;

use proc_macro2::{TokenStream, TokenTree};
use syn::{Expr, ImplItem, Item};

use super::Finding;

/// The file with the list.
pub(super) const LIST: &str = "leakwatch-common/src/counter.rs";

/// Compares the variants of `Counter` with their numbers, `Counter::ALL` and `COUNTERS`.
pub(super) fn check_list(file: &str, parsed: &syn::File) -> Vec<Finding> {
    let Some(variants) = variants(parsed) else {
        return vec![Finding::new(file, 0, "has no enum `Counter`")];
    };
    let mut findings = Vec::new();
    for (index, (name, number, line)) in variants.iter().enumerate() {
        if *number != Some(index) {
            findings.push(Finding::new(
                file,
                *line,
                format!("`Counter::{name}` must be written `= {index}`"),
            ));
        }
    }
    let names: Vec<&String> = variants.iter().map(|(name, ..)| name).collect();
    let listed = all(parsed).unwrap_or_default();
    if names.iter().copied().ne(listed.iter()) {
        let odd = names
            .iter()
            .zip(&listed)
            .find(|(name, listed)| **name != *listed)
            .map(|(name, _)| (*name).clone());
        let odd = odd.or_else(|| names.get(listed.len()).map(|name| (*name).clone()));
        let odd = odd
            .map_or_else(|| "it is longer".to_owned(), |name| format!("`{name}` is missing or out of order"));
        findings.push(Finding::new(
            file,
            0,
            format!("`Counter::ALL` is not the list of the variants: {odd}"),
        ));
    }
    findings
}

/// Every counter is raised, or at least named, by the kernel side.
pub(super) fn check_uses(list: &str, kernel_side: &str) -> Vec<Finding> {
    let (Ok(list), Ok(words)) = (syn::parse_file(list), kernel_side_words(kernel_side)) else {
        return Vec::new(); // The file's own check says so.
    };
    let unused = variants(&list).unwrap_or_default().into_iter().filter(|(name, ..)| !words.contains(name));
    unused
        .map(|(name, _, line)| Finding::new(LIST, line, format!("nothing in leakwatch-ebpf raises `{name}`")))
        .collect()
}

type Variant = (String, Option<usize>, usize);

fn variants(parsed: &syn::File) -> Option<Vec<Variant>> {
    let counter = parsed.items.iter().find_map(|item| match item {
        Item::Enum(item) if item.ident == "Counter" => Some(item),
        _ => None,
    })?;
    let number = |variant: &syn::Variant| {
        let (_, Expr::Lit(literal)) = variant.discriminant.as_ref()? else { return None };
        let syn::Lit::Int(number) = &literal.lit else { return None };
        number.base10_parse().ok()
    };
    let variants = counter.variants.iter();
    Some(variants.map(|v| (v.ident.to_string(), number(v), v.ident.span().start().line)).collect())
}

/// The last segments of the entries of `const ALL`.
fn all(parsed: &syn::File) -> Option<Vec<String>> {
    let constants = parsed.items.iter().filter_map(|item| match item {
        Item::Impl(item) => Some(&item.items),
        _ => None,
    });
    let list = constants.flatten().find_map(|item| match item {
        ImplItem::Const(constant) if constant.ident == "ALL" => Some(&constant.expr),
        _ => None,
    })?;
    let Expr::Array(list) = list else { return None };
    let name = |entry: &Expr| match entry {
        Expr::Path(path) => path.path.segments.last().map(|segment| segment.ident.to_string()),
        _ => None,
    };
    list.elems.iter().map(name).collect()
}

/// The names behind `Counter::`.
fn kernel_side_words(source: &str) -> syn::Result<BTreeSet<String>> {
    let mut words = BTreeSet::new();
    collect(&syn::parse_str(source)?, &mut words);
    Ok(words)
}

fn collect(tokens: &TokenStream, words: &mut BTreeSet<String>) {
    let trees: Vec<TokenTree> = tokens.clone().into_iter().collect();
    for window in trees.windows(4) {
        if let [TokenTree::Ident(of), TokenTree::Punct(_), TokenTree::Punct(colon), TokenTree::Ident(name)] =
            window
            && of == "Counter"
            && colon.as_char() == ':'
        {
            words.insert(name.to_string());
        }
    }
    for tree in trees {
        if let TokenTree::Group(group) = tree {
            collect(&group.stream(), words);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(source: &str) -> Vec<String> {
        let parsed = syn::parse_file(source).expect("the snippet parses");
        check_list(LIST, &parsed).into_iter().map(|finding| finding.text).collect()
    }

    #[test]
    fn a_complete_list_passes() {
        let source =
            "enum Counter { A = 0, B = 1 } impl Counter { const ALL: [Self; 2] = [Self::A, Self::B]; }";
        assert!(list(source).is_empty());
    }

    #[test]
    fn gaps_are_named() {
        let missing = "enum Counter { A = 0, B = 1 } impl Counter { const ALL: [Self; 1] = [Self::A]; }";
        assert_eq!(
            list(missing),
            ["`Counter::ALL` is not the list of the variants: `B` is missing or out of order"]
        );
        let swapped =
            "enum Counter { A = 0, B = 1 } impl Counter { const ALL: [Self; 2] = [Self::B, Self::A]; }";
        assert_eq!(
            list(swapped),
            ["`Counter::ALL` is not the list of the variants: `A` is missing or out of order"]
        );
        let reused =
            "enum Counter { A = 0, B = 0 } impl Counter { const ALL: [Self; 2] = [Self::A, Self::B]; }";
        assert_eq!(list(reused), ["`Counter::B` must be written `= 1`"]);
        assert_eq!(list("struct Other;"), ["has no enum `Counter`"]);
    }

    #[test]
    fn a_counter_that_nothing_raises_is_named() {
        let list = "enum Counter { Used = 0, Unused = 1 }";
        let findings =
            check_uses(list, "fn f() { counters::add(slot, Counter::Used); m!(x, Counter::Other) }");
        assert_eq!(
            findings.into_iter().map(|f| f.text).collect::<Vec<_>>(),
            ["nothing in leakwatch-ebpf raises `Unused`"]
        );
    }
}

//! Which stacks are the same to a person: equal after normalisation first, then those that differ by few frames.
//!
//! Normalised is what the compiler and the linker chose: type arguments, numbers of closures, wrappers, addresses. Near
//! stacks join the largest group that they resemble, by edit distance over frames. Pure, and bounded: so many groups are
//! compared, and so many frames of each.

use std::collections::BTreeMap;

/// Groups that are compared with each other, the largest ones; the rest stays as it is.
const COMPARED: usize = 400;
/// Frames that are compared, the innermost ones.
const FRAMES: usize = 64;
/// Stacks are near when at most this share of the longer one's frames has to change.
const NEAR: f64 = 0.25;

/// A stack and how many tasks have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stacked {
    /// Function names, innermost first.
    pub functions: Vec<String>,
    /// How many tasks.
    pub count: u64,
}

/// Stacks that are the same, or near.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cluster {
    /// Indices of its stacks: those that equal the first after normalisation, then the near ones.
    pub members: Vec<usize>,
    /// How many of them are only near.
    pub near: usize,
    /// How many tasks.
    pub count: u64,
}

/// A function name without what the compiler chose: `main.(*T[go.shape.int]).run.func1.2` is `main.(*T).run.func`.
/// `None`: a wrapper, which is no frame to a person.
pub fn normalise(function: &str) -> Option<String> {
    let mut name = String::with_capacity(function.len());
    let mut depth = 0_usize;
    for character in function.chars() {
        match character {
            '[' => depth += 1,
            ']' => depth = depth.saturating_sub(1),
            _ if depth == 0 => name.push(character),
            _ => {}
        }
    }
    // An address instead of a name.
    if name.starts_with("0x") {
        return Some("?".to_owned());
    }
    let mut parts: Vec<&str> = name.split('.').collect();
    let numbered = |part: &str, prefix: &str| {
        part.strip_prefix(prefix)
            .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit()))
    };
    let number = |part: &&str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let mut closure = false;
    while let Some(last) = parts.last().copied().filter(|_| parts.len() > 1) {
        if numbered(last, "gowrap") || numbered(last, "deferwrap") {
            return None;
        }
        if numbered(last, "func") || number(&last) {
            closure = true;
            parts.pop();
        } else {
            break;
        }
    }
    // Rust: `f::{{closure}}` and the hash at the end of a legacy name.
    let joined = parts.join(".");
    let plain = match joined.rsplit_once("::h") {
        Some((head, hash)) if hash.len() == 16 && hash.bytes().all(|b| b.is_ascii_hexdigit()) => {
            head.to_owned()
        }
        _ => joined,
    };
    Some(if closure { format!("{plain}.func") } else { plain })
}

/// Groups stacks, the largest groups first.
pub fn cluster(stacks: &[Stacked]) -> Vec<Cluster> {
    let mut names: BTreeMap<String, u32> = BTreeMap::new();
    let mut exact: BTreeMap<Vec<u32>, Cluster> = BTreeMap::new();
    for (index, stack) in stacks.iter().enumerate() {
        let tokens = stack
            .functions
            .iter()
            .filter_map(|function| normalise(function))
            .map(|name| {
                let next = u32::try_from(names.len()).unwrap_or(u32::MAX);
                *names.entry(name).or_insert(next)
            })
            .collect();
        let group = exact.entry(tokens).or_default();
        group.members.push(index);
        group.count += stack.count;
    }
    let mut groups: Vec<(Vec<u32>, Cluster)> = exact.into_iter().collect();
    groups.sort_by(|a, b| b.1.count.cmp(&a.1.count).then_with(|| a.1.members.cmp(&b.1.members)));
    let mut clusters: Vec<(Vec<u32>, Cluster)> = Vec::new();
    for (index, (tokens, group)) in groups.into_iter().enumerate() {
        let leader = (index < COMPARED)
            .then(|| clusters.iter_mut().find(|(leader, _)| near(leader, &tokens)))
            .flatten();
        match leader {
            Some((_, cluster)) => {
                cluster.near += group.members.len();
                cluster.members.extend(group.members);
                cluster.count += group.count;
            }
            None => clusters.push((tokens, group)),
        }
    }
    let mut clusters: Vec<Cluster> = clusters.into_iter().map(|(_, cluster)| cluster).collect();
    clusters.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.members.cmp(&b.members)));
    clusters
}

/// Few of their frames differ. Stacks of three frames or fewer are near only when they are equal: what differs there is
/// what the task does.
fn near(a: &[u32], b: &[u32]) -> bool {
    let (a, b) = (a.get(..FRAMES).unwrap_or(a), b.get(..FRAMES).unwrap_or(b));
    let longer = a.len().max(b.len());
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a share of at most 64 frames"
    )]
    let allowed = (longer as f64 * NEAR) as usize;
    longer > 3 && a.len().abs_diff(b.len()) <= allowed && distance(a, b) <= allowed
}

/// Levenshtein's distance over frames.
fn distance(a: &[u32], b: &[u32]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (slot, y) in row.iter_mut().skip(1).zip(b) {
            let cost = (diagonal + usize::from(x != y)).min(*slot + 1).min(left + 1);
            diagonal = *slot;
            *slot = cost;
            left = cost;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stack(functions: &str, count: u64) -> Stacked {
        Stacked { functions: functions.split(' ').map(str::to_owned).collect(), count }
    }

    #[test]
    fn what_the_compiler_chose_is_taken_off() {
        let check =
            |name: &str, expect: Option<&str>| assert_eq!(normalise(name).as_deref(), expect, "{name}");
        check("main.main", Some("main.main"));
        check("main.(*T[go.shape.int]).run.func1.2", Some("main.(*T).run.func"));
        check("main.worker[...].func3", Some("main.worker.func"));
        check("main.main.gowrap1", None);
        check("main.f.deferwrap2", None);
        check("main.func1", Some("main.func"));
        check("main.function1", Some("main.function1"));
        check("0x4512ab", Some("?"));
        check("core::ops::f::h0123456789abcdef", Some("core::ops::f"));
        check("", Some(""));
    }

    #[test]
    fn exact_groups_first_then_near_ones() {
        let stacks = [
            stack("park chanrecv main.f.func1 a b c d e", 5),
            stack("park chanrecv main.f.func2 a b c d e", 7),
            stack("park chanrecv main.f.func2 a b x d e", 1),
            stack("park select other q", 3),
            stack("read", 2),
            stack("write", 2),
        ];
        let clusters = cluster(&stacks);
        assert_eq!(clusters.first(), Some(&Cluster { members: vec![0, 1, 2], near: 1, count: 13 }));
        assert_eq!(clusters.len(), 4, "short stacks that differ are different: {clusters:?}");
        assert_eq!(clusters.iter().map(|cluster| cluster.count).sum::<u64>(), 20);
    }

    #[test]
    fn distances() {
        assert_eq!(distance(&[1, 2, 3], &[1, 2, 3]), 0);
        assert_eq!(distance(&[1, 2, 3], &[1, 3]), 1);
        assert_eq!(distance(&[], &[1, 3]), 2);
        assert_eq!(distance(&[4, 5, 6, 7], &[5, 6, 7, 8]), 2);
    }

    #[test]
    fn many_stacks_are_grouped_in_bounded_time() {
        let stacks: Vec<Stacked> = (0..3000_u64)
            .map(|n| Stacked {
                functions: (0..70).map(|f| format!("f{}", (n * 7 + f * n) % 997)).collect(),
                count: n,
            })
            .collect();
        let clusters = cluster(&stacks);
        assert_eq!(clusters.iter().map(|cluster| cluster.members.len()).sum::<usize>(), stacks.len());
    }
}

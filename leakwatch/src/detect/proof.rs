//! Tasks that nothing alive can wake: the rule that has a proof.
//!
//! It counts what a proof by reachability found at a site (Go), or the tasks to which nothing refers any more (tokio), and says
//! why in the proof's own terms. It never guesses: without a proof it has nothing to say, and one refutation in the process is
//! enough for it not to trust any proof there.

use leakwatch_common::RuntimeKind;

use super::units::count;
use super::{Evidence, Finding, Rule, Verdict};
use crate::model::SiteProof;
use crate::observe::{Awaited, ProvenObject};

/// Calls a site a leak when tasks of it are proven to wait for ever.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Proven;

impl Rule for Proven {
    fn summary(&self) -> &'static str {
        "nothing alive can ever wake them (Go: with a proof)"
    }

    fn check(&self, evidence: &Evidence<'_>) -> Finding {
        let ok = |why: &str| Finding::new(Verdict::Ok, why.to_owned(), 0.0, String::new());
        let Some(proven) = evidence.site.proven() else { return ok("no proof was tried") };
        if proven.count == 0 {
            return ok("no task is proven to wait for ever");
        }
        if evidence.site.id().runtime == RuntimeKind::Tokio {
            return without_waker(proven);
        }
        let why =
            format!("{} can never be woken: {}", count(proven.count, "goroutine"), reason(&proven.awaited));
        if proven.refuted > 0 {
            let why = format!(
                "{why}; but {} of this process ran or ended after such a proof, so proofs are not to be trusted here",
                count(proven.refuted, "goroutine")
            );
            return Finding::new(Verdict::Suspect, why, 0.0, String::new());
        }
        Finding::new(Verdict::Leak, why, proven.confidence.clamp(0.0, 1.0), String::new())
    }
}

/// Of tokio's tasks. A program may keep a single one for ever on purpose, for what it holds.
fn without_waker(proven: &SiteProof) -> Finding {
    let why = format!(
        "{} can never be woken: no waker and no handle is left, only the list of the runtime refers to {}",
        count(proven.count, "task"),
        if proven.count == 1 { "it" } else { "them" },
    );
    match proven.count {
        1 => Finding::new(Verdict::Ok, format!("{why}; one may be meant so"), 0.5, String::new()),
        _ => Finding::new(Verdict::Leak, why, proven.confidence, String::new()),
    }
}

/// `sync.Mutex 0xc000012340`, `channel 0xc000012340 (buffer of 4, 3 in it)`
pub fn describe(object: &ProvenObject) -> String {
    let address = object.address;
    let of_channel = match object.channel {
        None => String::new(),
        Some((_, _, true)) => " (closed)".to_owned(),
        Some((_, 0, false)) => " (unbuffered)".to_owned(),
        Some((length, capacity, false)) => format!(" (buffer of {capacity}, {length} in it)"),
    };
    format!("{} {address:#x}{of_channel}", object.kind.noun())
}

/// Why nothing can wake those who wait on these objects.
pub fn reason(awaited: &Awaited) -> String {
    let Some(first) = &awaited.first else {
        if awaited.objects > 0 {
            return "nothing that runs or can run again reaches what is waited for".to_owned();
        }
        return "nothing can ever end a wait on a nil channel or in a select without cases".to_owned();
    };
    let several = awaited.objects > 1;
    let held = match (awaited.most_holders, awaited.all_holders) {
        (0 | 1, true) if several => "each is held only by the goroutine that waits for it".to_owned(),
        (0 | 1, true) => "it is held only by the goroutine itself".to_owned(),
        (most, true) if several => {
            format!("each is held only by goroutines that are themselves stuck, {most} at most")
        }
        (most, true) => format!("it is held only by {most} goroutines that are themselves stuck"),
        (_, false) if several => "each is held only by goroutines that are themselves stuck".to_owned(),
        (_, false) => "it is held only by goroutines that are themselves stuck".to_owned(),
    };
    if !several {
        return format!("nothing that runs or can run again reaches the {}: {held}", describe(first));
    }
    let noun = if awaited.alike { first.kind.noun() } else { "object" };
    let plural = if noun.ends_with('x') { "es" } else { "s" };
    format!(
        "nothing that runs or can run again reaches any of the {} {noun}{plural}, such as the {}: {held}",
        count(awaited.objects, ""),
        describe(first)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::WaitKind;

    fn object(address: u64, kind: WaitKind, holders: u64) -> ProvenObject {
        ProvenObject { address, kind, channel: None, waiting: 1, holders, all_holders: true }
    }

    #[test]
    fn reasons() {
        let none: [&ProvenObject; 0] = [];
        assert!(reason(&Awaited::of(none)).contains("nil channel"));
        let channel = ProvenObject { channel: Some((3, 4, false)), ..object(0xc0_1000, WaitKind::Send, 3) };
        assert_eq!(
            reason(&Awaited::of([&channel])),
            "nothing that runs or can run again reaches the channel 0xc01000 (buffer of 4, 3 in it): it is held only by 3 \
             goroutines that are themselves stuck"
        );
        let (first, second) = (object(0xc0_1000, WaitKind::Mutex, 1), object(0xc0_2000, WaitKind::Mutex, 1));
        assert_eq!(
            reason(&Awaited::of([&first, &second])),
            "nothing that runs or can run again reaches any of the 2 sync.Mutexes, such as the sync.Mutex 0xc01000: each is \
             held only by the goroutine that waits for it"
        );
        let uncertain = ProvenObject { all_holders: false, ..second };
        let mixed = reason(&Awaited::of([&channel, &uncertain]));
        assert!(mixed.contains("2 objects") && mixed.ends_with("themselves stuck"), "{mixed}");
    }
}

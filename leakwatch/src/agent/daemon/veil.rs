//! Names and stacks that are not to be told: hashes for names, nothing for stacks.
//!
//! It sits between what is known of a process and its report, so that nothing behind the report has them: no answer, no metric, no
//! alert, no rule, no log. It must never be gone around.

use sha2::{Digest as _, Sha256};

use super::options::Redact;
use crate::{
    images::Words,
    observe::SiteId,
    report::{FrameName, Names, SiteName, SpawnReport, in_words},
};

/// Bytes of a hash that are shown: names of one program do not meet in them.
const SHOWN: usize = 8;

/// Names as they may be told.
pub(super) struct Veiled<'r, N> {
    names: N,
    redact: &'r Redact,
}

impl<'r, N: Names> Veiled<'r, N> {
    pub(super) fn new(names: N, redact: &'r Redact) -> Self {
        Self { names, redact }
    }

    /// What is told in place of a name.
    fn hidden(&self, name: &str) -> String {
        let digest =
            Sha256::new().chain_update(&self.redact.key.0).chain_update([0]).chain_update(name).finalize();
        let hex = digest.iter().take(SHOWN).map(|byte| format!("{byte:02x}"));
        format!("hidden-{}", hex.collect::<String>())
    }

    fn maybe_hidden(&self, name: Option<String>) -> Option<String> {
        name.map(|name| self.hidden(&name))
    }
}

impl<N: Names> Names for Veiled<'_, N> {
    fn site(&mut self, site: SiteId) -> SiteName {
        let name = self.names.site(site);
        if !self.redact.symbols {
            return name;
        }
        let SiteName { function, file: _, line: _, task, system } = name;
        let (function, task) = (self.maybe_hidden(function), self.maybe_hidden(task));
        SiteName { function, file: None, line: None, task, system }
    }

    fn spawns(&mut self, site: SiteId) -> Vec<SpawnReport> {
        let spawns = self.names.spawns(site);
        if !self.redact.symbols {
            return spawns;
        }
        let veil = |SpawnReport { function, file: _, line: _, seen }| SpawnReport {
            function: self.maybe_hidden(function),
            file: None,
            line: None,
            seen,
        };
        spawns.into_iter().map(veil).collect()
    }

    fn creation_stack(&mut self, site: SiteId) -> Vec<u64> {
        self.names.creation_stack(site)
    }

    fn tells_stacks(&self) -> bool {
        !self.redact.stacks
    }

    fn frame(&mut self, pc: u64) -> Vec<FrameName> {
        let frames = self.names.frame(pc);
        if !self.redact.symbols {
            return frames;
        }
        let veil = |FrameName { function, file: _, line: _, internal }| FrameName {
            function: self.hidden(&function),
            file: None,
            line: None,
            internal,
        };
        frames.into_iter().map(veil).collect()
    }

    fn words(&mut self, pc: u64) -> Option<Words> {
        if self.redact.symbols {
            let frames = self.frame(pc);
            return (!frames.is_empty()).then(|| in_words(&frames));
        }
        self.names.words(pc)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::daemon::options::Key;

    struct Known;

    impl Names for Known {
        fn site(&mut self, _site: SiteId) -> SiteName {
            SiteName {
                function: Some("main.secret".to_owned()),
                file: Some("secret.go".to_owned()),
                line: Some(7),
                task: None,
                system: true,
            }
        }

        fn creation_stack(&mut self, _site: SiteId) -> Vec<u64> {
            vec![1, 2]
        }

        fn frame(&mut self, _pc: u64) -> Vec<FrameName> {
            let file = Some("secret.go".to_owned());
            vec![FrameName { function: "main.secret".to_owned(), file, line: Some(7), internal: false }]
        }
    }

    fn site() -> SiteId {
        SiteId { runtime: leakwatch_common::RuntimeKind::Go, site: 1, entry: 0 }
    }

    #[test]
    fn names_become_hashes_that_a_key_changes() {
        let mut redact = Redact { symbols: true, ..Redact::default() };
        let name = |redact: &Redact| Veiled::new(Known, redact).site(site());
        let plain = name(&redact);
        assert_eq!((&plain.file, plain.line, &plain.task, plain.system), (&None, None, &None, true));
        let function = plain.function.clone().expect("a hash");
        assert!(function.starts_with("hidden-") && !function.contains("secret"), "{function}");
        assert_eq!(name(&redact), plain, "the same each time");
        let frame = Veiled::new(Known, &redact).frame(1).remove(0);
        assert_eq!((frame.function.clone(), frame.to_string()), (function.clone(), function.clone()));
        assert!(Veiled::new(Known, &redact).tells_stacks(), "stacks are another matter");
        redact.key = Key(b"0123456789abcdef".to_vec());
        assert_ne!(name(&redact).function, plain.function);
        assert!(!format!("{redact:?}").contains("48"), "{redact:?}");
    }

    #[test]
    fn without_redaction_nothing_changes_and_stacks_go_alone() {
        let none = Redact::default();
        assert_eq!(Veiled::new(Known, &none).site(site()), Known.site(site()));
        let stacks = Redact { stacks: true, ..Redact::default() };
        assert_eq!(Veiled::new(Known, &stacks).site(site()), Known.site(site()));
        assert!(!Veiled::new(Known, &stacks).tells_stacks() && Veiled::new(Known, &none).tells_stacks());
    }
}

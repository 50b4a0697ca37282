//! The profiles that come with leakwatch.

use super::{ConfigError, profile};
use crate::collect::custom::Named;

/// A profile that comes with leakwatch.
#[derive(Clone, Copy, Debug)]
pub struct Shipped {
    /// Its name.
    pub name: &'static str,
    /// The file.
    pub text: &'static str,
}

const SHIPPED: [Shipped; 5] = [
    Shipped { name: "async-task", text: include_str!("../../profiles/async-task.toml") },
    Shipped { name: "asyncio", text: include_str!("../../profiles/asyncio.toml") },
    Shipped { name: "handle-pool", text: include_str!("../../profiles/handle-pool.toml") },
    Shipped { name: "libuv", text: include_str!("../../profiles/libuv.toml") },
    Shipped { name: "pthread", text: include_str!("../../profiles/pthread.toml") },
];

/// All of them, by name.
pub fn shipped() -> &'static [Shipped] {
    &SHIPPED
}

impl Shipped {
    /// What it is for, in one sentence.
    pub fn description(&self) -> String {
        profile::parse(self.name, self.text).map(|profile| profile.description).unwrap_or_default()
    }

    pub(super) fn named(&self) -> Result<Named, ConfigError> {
        profile::parse(&format!("profile {}", self.name), self.text).map(|profile| profile.named)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_right_and_says_what_it_is_for() {
        for profile in shipped() {
            let named = profile.named().expect(profile.name);
            assert_eq!(named.name, profile.name);
            assert!(profile.description().ends_with('.'), "{}", profile.name);
        }
        assert!(shipped().is_sorted_by_key(|profile| profile.name));
    }
}

//! Whether this machine and this user can run leakwatch: the answer of `leakwatch doctor`.

/// What was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// Finding by finding, what matters most first.
    pub findings: Vec<MachineFinding>,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MachineFinding {
    /// What, in a word or two.
    pub name: String,
    /// How it bears on leakwatch.
    pub fitness: Fitness,
    /// What was found.
    pub found: String,
    /// What to do about it.
    pub fix: Option<String>,
}

/// How a finding bears on leakwatch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fitness {
    /// Fine.
    Ok,
    /// Some things will not work, or nobody knows.
    Warn,
    /// Nothing will work.
    Fail,
}

impl Machine {
    /// Findings of this kind.
    pub fn count(&self, fitness: Fitness) -> usize {
        self.findings.iter().filter(|finding| finding.fitness == fitness).count()
    }
}

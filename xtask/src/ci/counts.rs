//! Reads the closing lines of test runners, and the lines by which a test says that it could not run.

use std::fmt;

/// Tests by how they ended, over several runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    passed: usize,
    failed: usize,
    /// `name: reason` of each.
    pub(super) skips: Vec<String>,
    /// Names of those that failed, and passed when they were run once more.
    pub(super) flaky: Vec<String>,
}

impl Counts {
    /// Counts in the output of `cargo test` or `cargo nextest run`, and looks there and in what passed tests
    /// `printed` for skips: a test that cannot run here prints `SKIP name: reason` and passes, as far as its
    /// runner knows.
    pub(super) fn read(output: &str, printed: &str) -> Self {
        let mut counts = Self::default();
        for line in output.lines().map(str::trim) {
            if let Some(result) = line.strip_prefix("test result: ") {
                counts.passed += number_before(result, "passed");
                counts.failed += number_before(result, "failed");
            } else if line.starts_with("Summary [") && line.contains(" run: ") {
                // Above it nextest shows the output of failed tests, each with a result of its own.
                counts.passed = number_before(line, "passed");
                counts.failed =
                    ["failed", "timed out", "exec failed"].iter().map(|bad| number_before(line, bad)).sum();
            } else if line.starts_with("FLAKY ") {
                // Once when it happens, and once more below the summary.
                let name = line.rsplit(' ').next().unwrap_or(line).to_owned();
                if !counts.flaky.contains(&name) {
                    counts.flaky.push(name);
                }
            }
        }
        for line in output.lines().chain(printed.lines()) {
            if let Some(skip) = line.trim().strip_prefix("SKIP ") {
                let skip = skip.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&");
                if skip.contains(": ") && !counts.skips.contains(&skip) {
                    counts.skips.push(skip);
                }
            }
        }
        counts.passed = counts.passed.saturating_sub(counts.skips.len());
        counts
    }

    /// Adds another run's.
    pub(super) fn add(&mut self, other: &Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skips.extend(other.skips.iter().cloned());
        self.flaky.extend(other.flaky.iter().cloned());
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed, {} skipped", self.passed, self.failed, self.skips.len())
    }
}

/// The number right before `word`, 0 when there is none.
fn number_before(line: &str, word: &str) -> usize {
    line.split([',', ';', '(', '.', ':'])
        .filter_map(|part| part.trim().strip_suffix(word))
        .find_map(|number| number.trim().parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cargo_test_is_understood() {
        let text = "
running 3 tests
test a ... ok
test result: ok. 40 passed; 0 failed; 0 ignored; 0 measured; 2 filtered out; finished in 0.53s
test result: FAILED. 5 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s
";
        assert_eq!(Counts::read(text, "").to_string(), "45 passed, 2 failed, 0 skipped");
    }

    #[test]
    fn nextest_is_understood() {
        let text = "     Summary [   0.054s] 40 tests run: 40 passed, 12 skipped\n";
        assert_eq!(Counts::read(text, "").to_string(), "40 passed, 0 failed, 0 skipped");
        let text = "     Summary [  71.3s] 9 tests run: 5 passed (1 slow), 2 failed, 1 timed out, 1 exec failed, 3 skipped\n";
        assert_eq!(Counts::read(text, "").to_string(), "5 passed, 4 failed, 0 skipped");
        let text = "
    test result: FAILED. 0 passed; 1 failed; 0 ignored; 0 measured; 53 filtered out; finished in 0.00s
     Summary [   0.100s] 2 tests run: 1 passed, 1 failed, 0 skipped
";
        assert_eq!(Counts::read(text, "").to_string(), "1 passed, 1 failed, 0 skipped");
        let text = "
  TRY 1 FAIL [   0.003s] (1/2) leakwatch-tests::live page::a_page
  TRY 2 PASS [   0.004s] (1/2) leakwatch-tests::live page::a_page
     Summary [   1.000s] 2 tests run: 2 passed (1 flaky), 0 skipped
   FLAKY 2/2 [   0.004s] (1/2) leakwatch-tests::live page::a_page
";
        let counts = Counts::read(text, "");
        assert_eq!(counts.to_string(), "2 passed, 0 failed, 0 skipped");
        assert_eq!(counts.flaky, ["page::a_page"]);
    }

    #[test]
    fn skips_are_read_from_what_passed_tests_printed() {
        let printed =
            "<system-out>\nrunning 1 test\nSKIP go_plain: needs root &amp; BTF\ntest go_plain ... ok\n";
        let counts = Counts::read("     Summary [   0.1s] 2 tests run: 2 passed, 0 skipped\n", printed);
        assert_eq!(counts.to_string(), "1 passed, 0 failed, 1 skipped");
        assert_eq!(counts.skips, ["go_plain: needs root & BTF"]);
    }

    #[test]
    fn a_test_that_skips_itself_did_not_pass() {
        let text = "
SKIP go_plain: needs root
    SKIP go_pie: needs BTF
test result: ok. 5 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s
";
        let mut counts = Counts::read(text, "");
        assert_eq!(counts.to_string(), "3 passed, 0 failed, 2 skipped");
        assert_eq!(counts.skips, ["go_plain: needs root", "go_pie: needs BTF"]);
        counts.add(&Counts::read("test result: ok. 1 passed; 0 failed;", ""));
        assert_eq!(counts.to_string(), "4 passed, 0 failed, 2 skipped");
    }
}

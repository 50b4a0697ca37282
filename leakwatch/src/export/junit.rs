//! What a program left behind as `JUnit` XML, for build servers: a test case for each site, one that passes when there is
//! none.

use quick_junit::{NonSuccessKind, Report as JunitReport, TestCase, TestCaseStatus, TestSuite};

use crate::report::leftovers::Leftovers;

/// The XML. `sentences` are those of the sites, in their order.
///
/// # Errors
/// When it cannot be written as XML.
pub fn to_junit(left: &Leftovers<'_>, program: &str, sentences: &[String]) -> Result<String, String> {
    let mut suite = TestSuite::new(format!("leakwatch run {program}"));
    let failed = |message: &str| {
        let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
        status.set_message(message).set_type("left behind");
        status
    };
    for (one, sentence) in left.sites.iter().zip(sentences) {
        let function = one.site.function.as_deref().unwrap_or("?");
        let mut case = TestCase::new(function, failed(sentence));
        case.set_classname(format!("leakwatch.{}", one.process.comm));
        let frames = one.site.waiting.iter().flat_map(|group| &group.stack);
        if let TestCaseStatus::NonSuccess { description, .. } = &mut case.status {
            let stack: Vec<&str> = frames.map(|frame| &**frame).collect();
            *description = (!stack.is_empty()).then(|| stack.join("\n").into());
        }
        suite.add_test_case(case);
    }
    for process in &left.processes {
        let message = format!("{} (pid {}) still runs", process.comm, process.pid);
        suite.add_test_case(TestCase::new(process.comm.as_str(), failed(&message)));
    }
    if left.is_empty() {
        let mut case = TestCase::new("nothing left behind", TestCaseStatus::success());
        case.set_classname("leakwatch");
        suite.add_test_case(case);
    }
    let mut report = JunitReport::new("leakwatch");
    report.add_test_suite(suite);
    report.to_string().map_err(|error| format!("cannot write JUnit XML: {error}"))
}

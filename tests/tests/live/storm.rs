//! A target that is kept busy by a thread of its own while the test does something else.

use std::sync::atomic::{AtomicBool, Ordering};

use leakwatch_tests::Target;

/// Has the target storm until the work is done.
pub(crate) fn while_storming<T>(target: &mut Target, work: impl FnOnce() -> T) -> T {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // Set when the work panics, too, or the storm would never end.
        let _end = Raise(&over);
        let storm = scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                target.command("storm 20000 2");
                target.command("gcstorm 200");
            }
        });
        let result = work();
        over.store(true, Ordering::Relaxed);
        storm.join().expect("the target goes on");
        result
    })
}

/// Sets a flag when it is dropped.
pub(crate) struct Raise<'a>(pub(crate) &'a AtomicBool);

impl Drop for Raise<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

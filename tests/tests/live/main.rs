//! Real programs, watched by the built leakwatch: what it reports is what they know.
#![expect(clippy::tests_outside_test_module, reason = "all of it is a test")]

mod alerts;
mod browser;
mod custom;
mod deploy;
mod dump;
mod dumped;
mod evidence;
mod fleet;
mod folder;
mod harm;
mod host;
mod hostile;
mod java;
mod late;
mod life;
mod loss;
mod matrix;
mod memory;
mod metrics;
mod page;
mod places;
mod processes;
mod progress;
mod prove;
mod python;
mod recording;
mod rights;
mod run;
mod sent;
mod storm;
mod terminal;
mod third_party;
mod threads;
mod tokio;
mod verdicts;

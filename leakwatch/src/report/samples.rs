//! Reports for tests.

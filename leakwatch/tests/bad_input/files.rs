//! Files that are no programs, or none that leakwatch reads.

use std::{fs, process::Stdio};

use super::{leakwatch, refuses};

#[test]
fn not_a_regular_file() {
    let dir = tempfile::tempdir().expect("a directory");
    let fifo = dir.path().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).expect("a FIFO");
    let check = |path: &str, kind: &str| {
        let sentence = format!("{path} is a {kind}, not a regular file; give the path of an executable");
        refuses(leakwatch(&["inspect", path]), &sentence);
    };
    check("/", "directory");
    check("/dev/null", "device");
    check(fifo.to_str().expect("text"), "FIFO");
    refuses(leakwatch(&["inspect", "/no/such/file"]), "cannot open /no/such/file: No such file or directory");
}

#[test]
fn not_a_program_that_we_read() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("file");
    let path = path.to_str().expect("text");
    let check = |bytes: &[u8], why: &str| {
        fs::write(path, bytes).expect("a file");
        refuses(leakwatch(&["inspect", path]), &format!("cannot inspect {path}: {why}"));
    };
    check(b"", "this is not an ELF file (it starts with [])");
    check(b"#!/bin/sh\n", "this is not an ELF file (it starts with [23, 21, 2f, 62])");
    let elf = fs::read("/proc/self/exe").expect("our own bytes");
    let mut narrow = elf.clone();
    narrow[4] = 1;
    check(&narrow, "this is a 32-bit ELF file; leakwatch reads 64-bit little-endian x86-64 and arm64 only");
    for length in [5, 16, 63, 64, 100] {
        fs::write(path, &elf[..length]).expect("a file");
        let output = leakwatch(&["inspect", path]).output().expect("leakwatch starts");
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!((output.status.code(), stderr.lines().count()), (Some(1), 1), "{length}: {stderr}");
        assert!(stderr.contains("truncated or corrupt"), "{length}: {stderr}");
    }
}

#[test]
fn a_program_without_a_runtime_is_no_error() {
    let output = leakwatch(&["inspect", "/bin/sh"]).output().expect("leakwatch starts");
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success());
    assert!(stdout.contains("No runtime that leakwatch knows is linked into it"), "{stdout}");
    let output = leakwatch(&["inspect", "--format", "json", "/bin/sh"]).output().expect("leakwatch starts");
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(json["schema"], "leakwatch.binary/1");
    assert_eq!(json["runtimes"], serde_json::json!([]));
}

/// Whoever reads our output may leave: that is no error.
#[test]
fn a_closed_pipe_ends_quietly() {
    for arguments in [["inspect", "/bin/sh"].as_slice(), &["doctor"], &["man"]] {
        let mut command = leakwatch(arguments);
        let mut agent =
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("leakwatch starts");
        drop(agent.stdout.take());
        let output = agent.wait_with_output().expect("leakwatch ends");
        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{arguments:?}");
    }
}

#[test]
fn wrong_usage_is_exit_code_2() {
    for arguments in
        [["inspect"].as_slice(), &["inspect", "/bin/sh", "--pid", "1"], &["watch"], &["--pid", "x"], &["no"]]
    {
        let output = leakwatch(arguments).output().expect("leakwatch starts");
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(!output.stderr.is_empty() && output.stdout.is_empty(), "{arguments:?}");
    }
}

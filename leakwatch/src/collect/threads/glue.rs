//! What stands between a program's own code and the system call that makes a thread or a process: data.
//!
//! A site is the first frame outside of it, so a name that is missing here costs a site that is one call too far in, and
//! a name too many one that is too far out. Each row says whose code it is. Names are demangled ones.

use crate::images::Frame;

/// Libraries all of whose code is glue, by the beginning of the file's name.
const LIBRARIES: &[(&str, &str)] = &[
    ("libc.", "the C library"),
    ("libc-", "the C library, before glibc 2.34"),
    ("libpthread", "glibc before 2.34"),
    ("ld-linux", "the dynamic linker"),
    ("ld-musl", "musl: C library and dynamic linker are one"),
    ("ld-2", "the dynamic linker, before glibc 2.34"),
    ("libstdc++", "std::thread of GCC"),
    ("libc++", "std::thread of LLVM"),
    ("libgcc_s", "GCC's own support"),
    ("libasan", "GCC's sanitizers wrap pthread_create"),
    ("libtsan", "GCC's sanitizers wrap pthread_create"),
    ("[vdso]", "the kernel's own code"),
];

/// Functions that are glue, by the beginning of their names.
const FUNCTIONS: &[(&str, &str)] = &[
    ("pthread_create", "the C library, linked in"),
    ("__pthread_create", "the C library, linked in"),
    ("__interceptor_pthread_create", "the sanitizers of LLVM"),
    ("thrd_create", "the C library, linked in"),
    ("create_thread", "glibc, linked in"),
    ("__clone", "the C library, linked in"),
    ("clone", "the C library, linked in"),
    ("start_thread", "glibc's own start of a thread, linked in"),
    ("__libc_fork", "the C library, linked in"),
    ("__fork", "the C library, linked in"),
    ("_Fork", "the C library, linked in"),
    ("fork", "the C library, linked in"),
    ("vfork", "the C library, linked in"),
    ("posix_spawn", "the C library, linked in"),
    ("__spawni", "the C library, linked in"),
    ("std::thread::", "std::thread of C++ and of Rust, inlined or linked in"),
    ("std::__1::thread", "std::thread of LLVM"),
    ("std::__1::__thread", "std::thread of LLVM"),
    ("std::jthread", "C++20"),
    ("std::__invoke", "what std::thread calls the function with"),
    ("std::_", "the internals of GCC's library: std::async, futures"),
    ("std::async", "C++11"),
    ("std::sys::", "Rust"),
    ("std::sys_common::", "Rust"),
    ("std::process::", "Rust: processes"),
    ("std::panic", "Rust: what a thread's function is called in"),
    ("std::rt::", "Rust"),
    ("core::", "Rust"),
    ("alloc::", "Rust"),
    ("<alloc::", "Rust: calls of boxed functions"),
    ("<core::", "Rust"),
    ("<std::", "Rust: methods, as the newer mangling writes them"),
    ("__rust_begin_short_backtrace", "Rust"),
    ("__rust_try", "Rust: what a thread's function is called in"),
    ("execute_native_thread_routine", "libstdc++, linked in"),
    ("PyThread_", "CPython: threads of any system"),
    ("thread_PyThread_start_new_thread", "CPython: the module _thread"),
    ("do_start_new_thread", "CPython: the module _thread"),
    ("do_start_joinable_thread", "CPython: the module _thread"),
    ("thread_start_new_thread", "CPython: the module _thread"),
    ("thread_run", "CPython: the module _thread"),
    ("pythread_wrapper", "CPython"),
    ("_cgo_", "Go: C code makes the runtime's threads"),
    ("x_cgo_", "Go: C code makes the runtime's threads"),
    ("crosscall", "Go: between C and Go"),
    ("threadentry", "Go: the C start of one of the runtime's threads"),
    ("runtime.clone", "Go"),
    ("runtime.newosproc", "Go"),
    ("syscall.", "Go: forks"),
    ("internal/syscall/", "Go: forks"),
    ("os.", "Go: os.StartProcess"),
    ("os/exec.", "Go: commands"),
    ("os::create_thread", "the JVM"),
    ("os::", "the JVM"),
    ("JavaThread::JavaThread", "the JVM"),
    ("g_thread_", "GLib"),
    ("g_system_thread_new", "GLib"),
    ("uv_thread_create", "libuv"),
    ("uv__thread_start", "libuv"),
    ("QThread::start", "Qt"),
    ("boost::thread::", "Boost"),
];

/// Source files all of whose code is glue, by a part of their path: what is inlined from them has a name without its
/// namespace.
const FILES: &[(&str, &str)] = &[
    ("/include/c++/", "headers of GCC's library"),
    ("/c++/v1/", "headers of LLVM's library"),
    ("/library/std/src/", "Rust"),
    ("/library/core/src/", "Rust"),
    ("/library/alloc/src/", "Rust"),
];

/// Functions of which another function's name is the beginning, and that are not glue.
const NOT_GLUE: &[&str] = &["clone3_", "fork_", "clone_", "os::init"];

/// Code of runtimes that make threads for themselves, by the beginning of the name of the function that makes them.
const RUNTIMES: &[(&str, &str)] = &[
    ("runtime.", "Go's Ms: sysmon, and one for each thread that runs goroutines"),
    ("runtime/cgo", "Go's template thread"),
    ("tokio::runtime::", "workers and the pool for blocking jobs"),
    ("WatcherThread::", "the JVM"),
    ("ConcurrentGCThread::", "the JVM"),
    ("WorkerThreads::", "the JVM: collector"),
    ("WorkGang::", "the JVM: collector, before 19"),
    ("AbstractWorkGang::", "the JVM: collector, before 19"),
    ("WorkerManager::", "the JVM: collector, before 19"),
    ("CompileBroker::", "the JVM: compilers"),
    ("G1", "the JVM: collector"),
    ("VMThread::", "the JVM"),
    ("Threads::", "the JVM: those that it starts with"),
    ("ServiceThread::", "the JVM"),
    ("MonitorDeflationThread::", "the JVM"),
    ("NotificationThread::", "the JVM"),
    ("Signal", "the JVM: SignalDispatcher"),
    ("AttachListener", "the JVM"),
    ("JavaThread::create_system_thread_object", "the JVM"),
    ("JavaThread::start_internal_daemon", "the JVM"),
];

/// Whether all code of a file is glue.
pub(super) fn is_library(file_name: &str) -> bool {
    LIBRARIES.iter().any(|(begin, _)| file_name.starts_with(begin))
}

/// Whether a frame is glue.
pub(super) fn is_glue(frame: &Frame) -> bool {
    let of_file = |file: &str| FILES.iter().any(|(part, _)| file.contains(part));
    is_glue_by_name(&frame.function) || frame.file.as_deref().is_some_and(of_file)
}

fn is_glue_by_name(function: &str) -> bool {
    let name = bare(function);
    FUNCTIONS.iter().any(|(begin, _)| name.starts_with(begin))
        && !NOT_GLUE.iter().any(|begin| name.starts_with(begin))
}

/// Whether threads that a function makes are its runtime's own.
pub(super) fn is_of_runtime(function: &str) -> bool {
    let name = bare(function);
    RUNTIMES.iter().any(|(begin, _)| name.starts_with(begin))
}

/// A demangled name without what stands before it: `void std::f<int>(int)` returns nothing, and is not called so.
fn bare(function: &str) -> &str {
    let head = function.split(['<', '(']).next().unwrap_or(function);
    let at = head.rfind(' ').map_or(0, |space| space + 1);
    function.get(at..).filter(|rest| !rest.is_empty()).unwrap_or(function)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn glue_and_not() {
        for glue in [
            "pthread_create",
            "clone3",
            "__clone3",
            "std::thread::thread<void (&)(int), int&, void>(void (&)(int), int&)",
            "void std::thread::_M_start_thread()",
            "std::thread::Builder::spawn_unchecked_",
            "core::ops::function::FnOnce::call_once",
            "os::create_thread(Thread*, os::ThreadType, unsigned long)",
            "std::_V2::something",
            "runtime.newosproc",
        ] {
            assert!(is_glue_by_name(glue), "{glue}");
        }
        for own in [
            "leak_here",
            "fork_server",
            "clone_repository",
            "void run<std::thread::id>(int)",
            "JVM_StartThread",
            "runtime.newm1",
            "app::main",
        ] {
            assert!(!is_glue_by_name(own), "{own}");
        }
        assert!(is_library("libc.so.6") && is_library("libstdc++.so.6") && !is_library("libcurl.so.4"));
        assert!(is_of_runtime("runtime.newm1") && !is_of_runtime("main.runtime"));
    }
}

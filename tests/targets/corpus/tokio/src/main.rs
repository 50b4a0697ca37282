//! Shapes of tokio tasks that leak, and shapes that only look so, each with its truth beside it.
//!
//! `corpus list` prints every shape with its truth as one line of JSON; `corpus run NAME...` runs them until standard
//! input ends. A shape's tasks have the path of its function in their type's name.

mod fine;
mod leaks;
mod pace;

use std::future::Future;
use std::io::Read as _;
use std::pin::Pin;

/// One way to start tasks.
pub struct Shape {
    name: &'static str,
    /// Its tasks, or a share of them, stay for ever.
    leaks: bool,
    /// The function's path.
    function: &'static str,
    run: fn() -> Pin<Box<dyn Future<Output = ()> + Send>>,
}

/// Shapes by name and function.
#[macro_export]
macro_rules! shapes {
    ($leaks:literal: $($name:literal => $function:ident,)*) => {
        /// All of them.
        pub const ALL: &[$crate::Shape] = &[$($crate::Shape {
            name: $name,
            leaks: $leaks,
            function: concat!(module_path!(), "::", stringify!($function)),
            run: || Box::pin($function()),
        },)*];
    };
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let all = || leaks::ALL.iter().chain(fine::ALL);
    match arguments.split_first() {
        Some((word, _)) if word == "list" => {
            let line = |shape: &Shape| {
                format!(
                    r#"{{"name":"{}","leaks":{},"functions":["{}"]}}"#,
                    shape.name, shape.leaks, shape.function
                )
            };
            println!("[{}]", all().map(line).collect::<Vec<_>>().join(","));
        }
        Some((word, names)) if word == "run" => run(names.iter().map(|name| {
            all().find(|shape| shape.name == name).unwrap_or_else(|| panic!("no shape {name}"))
        })),
        _ => {
            eprintln!("corpus list | corpus run NAME...");
            std::process::exit(2);
        }
    }
}

fn run<'a>(shapes: impl Iterator<Item = &'a Shape>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("a runtime");
    for shape in shapes {
        runtime.spawn((shape.run)());
    }
    println!("ready");
    let _ended = std::io::stdin().read_to_end(&mut Vec::new());
    std::process::exit(0);
}

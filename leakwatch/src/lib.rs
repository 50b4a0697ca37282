//! leakwatch: how many tasks of a running program are alive, what starts them, and which of them leak.
//!
//! The floors, from the ground up; each may import only from floors above its own line here
//! (`cargo xtask tidy` holds the exact table):
//!
//! * `observe`: plain data that collection tells the model
//! * `folder`: folders that are written to by whoever runs as root for a long time
//! * `host`: processes, their memory and files, the machine's features
//! * `images`: binaries of processes, inspected, with names for addresses
//! * `kernel`: the eBPF side; the only floor that names aya
//! * `collect`: joins the four into samples
//! * `model`, `detect`, `report`: figures, verdicts, one report
//! * `text`, `tui`, `export`, `page`: outputs of that report
//! * `http`: requests to others
//! * `rules`, `alert`: what users want to be told of that report, and how they are told
//! * `relay`: sends what `export` encodes, with a queue on disk
//! * `fleet`: asks a Prometheus what the agents of all hosts saw
//! * `record`: a watch in a file, and its reports from that file
//! * `agent`: the loop and the clock
//! * `config`: flags and files turned into each floor's options
//! * `cmd`: commands

pub mod agent;
pub mod alert;
pub mod cli;
pub mod cmd;
pub mod collect;
pub mod config;
pub mod detect;
pub mod export;
pub mod fleet;
pub mod folder;
pub mod host;
pub mod http;
pub mod images;
pub mod kernel;
pub mod model;
pub mod observe;
pub mod page;
pub mod record;
pub mod relay;
pub mod report;
pub mod rules;
pub mod text;
pub mod tui;

//! Reports on a terminal, for a person: pages that are sorted, filtered and drawn anew with each report.
//!
//! [`State`] and [`draw()`] are pure; [`Screen`] has the terminal, [`run()`] the loop. Sees nothing but the report, never
//! blocks on what is watched, and never prints what is not known as a zero. Names come cleaned by `report::clean`.

mod chart;
mod columns;
mod draw;
mod keys;
mod listing;
mod look;
mod paper;
mod run;
mod screen;
mod state;
mod words;

#[cfg(test)]
mod tests;

pub use draw::draw;
pub use keys::Command;
pub use look::{Colors, Look, colors, is_utf8};
pub use run::{Feed, Host, run};
pub use screen::Screen;
pub use state::{Areas, Notice, Overlay, Page, State};

//! As much of JSON as the answers need: nested objects of names, counts, texts and flags.

use std::fmt::Write;

/// An object that is being written.
pub struct Object(String);

impl Object {
    pub fn new() -> Self {
        Self("{".to_owned())
    }

    fn key(&mut self, name: &str) {
        if self.0.len() > 1 {
            self.0.push(',');
        }
        text(&mut self.0, name);
        self.0.push(':');
    }

    pub fn number(mut self, name: &str, value: u64) -> Self {
        self.key(name);
        write!(self.0, "{value}").unwrap();
        self
    }

    pub fn maybe(mut self, name: &str, value: Option<u64>) -> Self {
        self.key(name);
        match value {
            Some(value) => write!(self.0, "{value}").unwrap(),
            None => self.0.push_str("null"),
        }
        self
    }

    pub fn flag(mut self, name: &str, value: bool) -> Self {
        self.key(name);
        write!(self.0, "{value}").unwrap();
        self
    }

    pub fn text(mut self, name: &str, value: &str) -> Self {
        self.key(name);
        text(&mut self.0, value);
        self
    }

    pub fn texts(mut self, name: &str, values: &[&str]) -> Self {
        self.key(name);
        for (i, value) in values.iter().enumerate() {
            self.0.push(if i == 0 { '[' } else { ',' });
            text(&mut self.0, value);
        }
        self.0.push_str(if values.is_empty() { "[]" } else { "]" });
        self
    }

    pub fn object(mut self, name: &str, value: Object) -> Self {
        self.key(name);
        self.0.push_str(&value.end());
        self
    }

    pub fn end(mut self) -> String {
        self.0.push('}');
        self.0
    }
}

fn text(out: &mut String, value: &str) {
    out.push('"');
    for c in value.chars() {
        match c {
            '"' | '\\' => {
                out.push('\\');
                out.push(c);
            }
            c if u32::from(c) < 0x20 => write!(out, "\\u{:04x}", u32::from(c)).unwrap(),
            c => out.push(c),
        }
    }
    out.push('"');
}

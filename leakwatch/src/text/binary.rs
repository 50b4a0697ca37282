//! A binary in words, for `leakwatch inspect`.

use super::Options;
use super::canvas::{Canvas, Style};
use crate::report::binary::{Binary, BinaryRuntime, Probe, TypeOfTask, Watch};
use crate::report::clean::clean;
use crate::report::units::{bytes, count};

/// Columns before a value.
const LABEL: usize = 14;

/// Prints a binary. Ends with a newline.
pub fn binary(binary: &Binary, options: &Options) -> String {
    let mut canvas = Canvas::new(options.width, options.color);
    let title = match binary.pid {
        Some(pid) => format!("{} (pid {pid})", clean(&binary.path)),
        None => clean(&binary.path),
    };
    canvas.line(Style::Strong, &title);
    field(&mut canvas, "file", &file(binary));
    field(&mut canvas, "build id", binary.build_id.as_deref().unwrap_or("none"));
    if let Some(bias) = binary.load_bias.filter(|_| binary.pie) {
        field(&mut canvas, "loaded", &format!("{bias:#x} above its link-time addresses"));
    }
    for problem in &binary.problems {
        warning(&mut canvas, problem);
    }
    if binary.runtimes.is_empty() {
        canvas.blank();
        canvas.wrapped(
            Style::Warning,
            "",
            0,
            "No runtime that leakwatch knows is linked into it: its tasks cannot be watched.",
        );
    }
    for found in &binary.runtimes {
        runtime(&mut canvas, found);
    }
    canvas.finish()
}

fn file(binary: &Binary) -> String {
    let parts = [
        "ELF",
        binary.arch,
        if binary.pie { "position independent" } else { "fixed addresses" },
        if binary.dynamic { "dynamic" } else { "static" },
        if binary.symtab { "symbol table" } else { "no symbol table" },
        if binary.dwarf { "DWARF" } else { "no DWARF" },
    ];
    format!("{}, {}", parts.join(", ").replacen(',', "", 1), bytes(binary.size_bytes))
}

fn runtime(canvas: &mut Canvas, runtime: &BinaryRuntime) {
    canvas.blank();
    let version = match (&runtime.version, runtime.version_source) {
        (Some(version), Some(source)) => format!("{}, from {source}", clean(version)),
        (Some(version), None) => clean(version),
        (None, _) => "version unknown".to_owned(),
    };
    canvas.line(Style::Strong, &format!("{}: {version}", runtime.kind));
    let (style, can) = match runtime.watch {
        Watch::Probes if runtime.is_named() => {
            (Style::Good, "yes: each start and end by probes; what is alive already is not known")
        }
        Watch::Probes => (Style::Good, "yes: each start and end by probes, what is alive from memory"),
        Watch::Memory => (Style::Warning, "from memory only: what is alive, no start or end is seen"),
        Watch::No => (Style::Bad, "no"),
    };
    styled(canvas, style, "can be watched", can);
    if let Some(package) = &runtime.main_package {
        field(canvas, "main package", &clean(package));
    }
    if !runtime.flavour.is_empty() {
        field(canvas, "built", &runtime.flavour.join(", "));
    }
    for (name, value) in &runtime.settings {
        let setting = clean(&format!("{name}={value}"));
        styled(canvas, Style::Faint, "", &setting);
    }
    if let Some(table) = &runtime.functions {
        let inlined = if table.inlined { "" } else { ", without inlined ones" };
        let text = format!(
            "{}{inlined}, table of {} at {:#x}, text at {:#x}",
            count(u64::from(table.count), "function"),
            table.format,
            table.address,
            table.text
        );
        field(canvas, "names", &text);
    }
    if let Some(layout) = &runtime.layout {
        let heap = if layout.heap { "" } else { ", not enough to walk the heap" };
        field(canvas, "offsets", &format!("from {}{heap}", layout.source));
    }
    if runtime.wait_reasons > 0 {
        field(canvas, "wait reasons", &runtime.wait_reasons.to_string());
    }

    canvas.blank();
    canvas.line(Style::Plain, "Probe sites");
    if runtime.probes.is_empty() {
        canvas.line(Style::Warning, "  none");
    }
    for site in &runtime.probes {
        probe(canvas, site);
    }
    if !runtime.types.is_empty() {
        canvas.blank();
        canvas.line(Style::Plain, "Types of tasks");
    }
    for found in &runtime.types {
        type_of_task(canvas, found);
    }
    if !runtime.globals.is_empty() {
        canvas.blank();
        canvas.line(Style::Plain, "Variables of the runtime");
    }
    for variable in &runtime.globals {
        let name = format!("  {:<28}", variable.name);
        match variable.found {
            Some((address, source)) => {
                canvas.line(Style::Plain, &format!("{name}{address:#x}, from {source}"));
            }
            None => canvas.line(Style::Warning, &format!("{name}not found")),
        }
    }
    list(canvas, "Missing", &runtime.missing);
    list(canvas, "Problems", &runtime.problems);
}

fn probe(canvas: &mut Canvas, probe: &Probe) {
    let traps = if probe.emulated { "one trap" } else { "two traps (single-stepped)" };
    canvas.line(
        Style::Plain,
        &format!(
            "  {:<6}{:#x} in {}: {}",
            probe.action,
            probe.address,
            clean(&probe.function),
            clean(&probe.instruction)
        ),
    );
    let facts = format!(
        "bytes {}, file offset {:#x}, task in {}, {traps}",
        probe.bytes, probe.file_offset, probe.register
    );
    canvas.wrapped(Style::Faint, "        ", 8, &facts);
    canvas.wrapped(Style::Plain, "        ", 8, &clean(&probe.reason));
}

fn type_of_task(canvas: &mut Canvas, found: &TypeOfTask) {
    let kind = found.kind.unwrap_or("unknown kind");
    let name = match (&found.name, found.name_is_certain) {
        (Some(name), true) => clean(name),
        (Some(name), false) => format!("{} (or another with the same code)", clean(name)),
        (None, _) => "no name".to_owned(),
    };
    canvas.line(Style::Plain, &format!("  {:#x} {kind}: {name}", found.vtable));
    let poll = found.poll.map(|poll| format!("poll {poll:#x}"));
    let scheduler = found.scheduler.as_deref().map(|scheduler| format!("on {}", clean(scheduler)));
    let place = found.place.as_deref().map(|place| format!("at {}", clean(place)));
    let facts: Vec<String> = [place, scheduler, poll].into_iter().flatten().collect();
    canvas.wrapped(Style::Faint, "        ", 8, &facts.join(", "));
}

fn list(canvas: &mut Canvas, title: &str, lines: &[String]) {
    if lines.is_empty() {
        return;
    }
    canvas.blank();
    canvas.line(Style::Plain, title);
    for line in lines {
        warning(canvas, line);
    }
}

fn warning(canvas: &mut Canvas, text: &str) {
    canvas.wrapped(Style::Warning, "  - ", 4, &clean(text));
}

fn field(canvas: &mut Canvas, label: &str, value: &str) {
    styled(canvas, Style::Plain, label, value);
}

fn styled(canvas: &mut Canvas, style: Style, label: &str, value: &str) {
    canvas.wrapped(style, &format!("  {label:<LABEL$}  "), LABEL + 4, value);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::binary::sample;

    #[test]
    fn every_fact_has_its_line_and_foreign_names_are_harmless() {
        let expect = r"/srv/app\x1b[2J (pid 7)
  file            ELF x86-64, position independent, static, no symbol table, no DWARF, 4.8 MiB
  build id        none
  loaded          0x555500000000 above its link-time addresses
  - the file was deleted

go: go1.26.1, from the build info
  can be watched  no
  main package    example.com/app
  built           position independent
                  -tags=a\nb
  wait reasons    45

Probe sites
  start 0x454168 in runtime.newproc1: call 0x44cde0
        bytes e8 73 8c ff ff, file offset 0x54168, task in rax, one trap
        it is the last call

Types of tasks
  0x710000 async: app::accept::{closure#0}
        at src/app.rs:3:5, poll 0x450000

Variables of the runtime
  runtime.allglen             0x625400, from the code that uses it
  runtime.sched               not found

Missing
  - the layout of a goroutine

Problems
  - odd
";
        assert_eq!(binary(&sample(), &Options { width: 100, ..Options::default() }), expect);
    }
}

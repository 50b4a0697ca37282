//! The worst sites of a fleet, for a person.

use super::{
    Options,
    canvas::{Canvas, Style},
};
use crate::report::{
    Verdict,
    clean::{clean, file_name, short_function},
    fleet::{FleetReport, FleetSite},
    units::{count, duration, figure},
};

/// Columns before the site.
const INDENT: usize = 50;

/// Digits of a build id that are printed: enough to tell versions apart, and to find one in JSON.
const DIGITS: usize = 12;

/// Prints a fleet. Ends with a newline.
pub fn fleet(fleet: &FleetReport, options: &Options) -> String {
    let mut canvas = Canvas::new(options.width, options.color);
    let head = format!(
        "{} with {}, as {} has it of {}; versions of the last {}",
        count(fleet.hosts, "host"),
        count(fleet.processes, "process"),
        clean(&fleet.prometheus),
        fleet.taken.strftime("%Y-%m-%d %H:%M:%SZ"),
        duration(fleet.since_s)
    );
    canvas.wrapped(Style::Strong, "", 0, &head);
    canvas.blank();
    if fleet.sites.is_empty() {
        canvas.line(Style::Plain, "no site of any process is known");
        return canvas.finish();
    }
    let titles = format!(
        "{:<14}{:>9}  {:>7}  {:>5}  {:>7}  {}",
        "verdict", "leaks/min", "live", "hosts", "procs", "site"
    );
    canvas.line(Style::Faint, &titles);
    for site in &fleet.sites {
        row(&mut canvas, site);
        canvas.wrapped(Style::Faint, &" ".repeat(INDENT), INDENT, &whose(fleet, site));
    }
    if fleet.more_sites > 0 {
        canvas.line(Style::Plain, &format!("{} not listed", count(fleet.more_sites, "more site")));
    }
    canvas.finish()
}

fn row(canvas: &mut Canvas, site: &FleetSite) {
    let style = match site.verdict {
        Verdict::Leak => Style::Bad,
        Verdict::Suspect => Style::Warning,
        Verdict::Ok | Verdict::NotYet => Style::Plain,
    };
    let word = match site.verdict {
        Verdict::NotYet => "not yet",
        verdict => verdict.name(),
    };
    let new = if site.is_new == Some(true) { ", new" } else { "" };
    canvas.piece(style, &format!("{:<14}", format!("{word}{new}")));
    let rate = site.leak_rate_per_min.map_or_else(|| "-".to_owned(), figure);
    let figures = format!(
        "{rate:>9}  {:>7}  {:>5}  {:>7}  ",
        count(site.live, ""),
        count(site.hosts, ""),
        count(site.processes, "")
    );
    canvas.piece(Style::Plain, &figures);
    canvas.piece(Style::Plain, &name(site));
    canvas.end();
}

/// `server.(*Server).accept (server.go:42)`
fn name(site: &FleetSite) -> String {
    let function = site.function.as_deref().or(site.task.as_deref()).unwrap_or("(unknown)");
    let function = clean(short_function(function));
    match (site.file.as_deref().map(|file| clean(file_name(file))), site.line) {
        (Some(file), Some(line)) => format!("{function} ({file}:{line})"),
        (Some(file), None) => format!("{function} ({file})"),
        (None, _) => function,
    }
}

/// `/usr/bin/shop, version 3f2a9c01b2c3 since 2h, after 99aa88bb77cc, image shop:1.25`
fn whose(fleet: &FleetReport, site: &FleetSite) -> String {
    let mut parts = vec![clean(site.exe.as_deref().unwrap_or("(unknown executable)"))];
    let short = |id: &str| clean(&id.chars().take(DIGITS).collect::<String>());
    if let Some(build_id) = &site.build_id {
        let age = site.first_seen.map(|first| fleet.taken.duration_since(first).as_secs_f64().max(0.0));
        let age = age.map(|age| format!(", first seen {} ago", duration(age))).unwrap_or_default();
        let before =
            site.version_before.as_ref().map(|id| format!(", after {}", short(id))).unwrap_or_default();
        parts.push(format!("version {}{before}{age}", short(build_id)));
    }
    if let Some(image) = &site.image {
        parts.push(format!("image {}", clean(image)));
    }
    if let Some(proven) = site.proven.filter(|&proven| proven > 0) {
        parts.push(format!("{} proven", count(proven, "")));
    }
    if site.leaking_processes > 0 && site.leaking_processes < site.processes {
        parts.push(format!("a leak in {}", count(site.leaking_processes, "process")));
    }
    parts.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site() -> FleetSite {
        FleetSite {
            exe: Some("/usr/bin/shop".to_owned()),
            build_id: Some("3f2a9c01b2c3d4e5".to_owned()),
            image: Some("shop:1.25\u{1b}[2J".to_owned()),
            runtime: Some("go".to_owned()),
            function: Some("example.org/shop/server.(*Server).accept".to_owned()),
            file: Some("/src/server.go".to_owned()),
            line: Some(42),
            task: None,
            verdict: Verdict::Leak,
            live: 1_204,
            leak_rate_per_min: Some(12.0),
            proven: None,
            hosts: 2,
            processes: 3,
            leaking_processes: 1,
            first_seen: Some("2026-11-22T01:00:00Z".parse().expect("a time")),
            version_before: Some("99aa88bb77cc66dd".to_owned()),
            is_new: Some(true),
        }
    }

    #[test]
    fn a_row_says_what_where_and_since_when() {
        let quiet = FleetSite {
            verdict: Verdict::Ok,
            leak_rate_per_min: None,
            build_id: None,
            image: None,
            leaking_processes: 0,
            is_new: None,
            ..site()
        };
        let report = FleetReport {
            prometheus: "prometheus:9090".to_owned(),
            taken: "2026-11-22T03:00:00Z".parse().expect("a time"),
            since_s: 86_400.0,
            hosts: 2,
            processes: 7,
            sites: vec![site(), quiet],
            more_sites: 3,
        };
        let text = fleet(&report, &Options { width: 200, ..Options::default() });
        assert_eq!(
            text,
            "2 hosts with 7 processes, as prometheus:9090 has it of 2026-11-22 03:00:00Z; versions of the last 1d\n\
             \n\
             verdict       leaks/min     live  hosts    procs  site\n\
             leak, new            12    1,204      2        3  server.(*Server).accept (server.go:42)\n\
             \x20                                                 /usr/bin/shop; version 3f2a9c01b2c3, after 99aa88bb77cc, \
             first seen 2h ago; image shop:1.25\\x1b[2J; a leak in 1 process\n\
             ok                    -    1,204      2        3  server.(*Server).accept (server.go:42)\n\
             \x20                                                 /usr/bin/shop\n\
             3 more sites not listed\n"
        );
        let none = FleetReport { sites: Vec::new(), ..report };
        assert!(fleet(&none, &Options::default()).ends_with("\n\nno site of any process is known\n"));
    }
}

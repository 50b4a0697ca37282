//! The agent's page in a real browser: what it shows is what the program knows, and no foreign name is more than a text.

use std::fs;
use std::path::PathBuf;

use leakwatch_tests::{Browser, HostAgent, Target, gate, matrix, need};
use serde_json::Value;

use crate::folder::Folder;
use crate::terminal::thousands;

/// Looks once a second, at the targets alone, and an alert for each leak.
const CONFIG: &str = "[sampling]\ninterval = \"1s\"\ncpu_percent = 50\n[promote]\ngrowth_per_min = 30\n\
                      [budget]\nprocess_percent = 100\nhost_percent = 100\n[[rule]]\npreset = \"leak\"\n";

/// A program may be called like this: markup that would run a script, controls, and a change of direction.
const HOSTILE: &str = "<img src=x onerror=document.title='owned'>\u{1b}[2J\u{202e}";

fn newest() -> PathBuf {
    matrix::go_target(matrix::GO_RELEASES[matrix::GO_RELEASES.len() - 1], "strip").path
}

/// An agent that watches the programs in a folder.
fn watching(name: &str, folder: &Folder, config: &str) -> HostAgent {
    let only = format!("[discover]\ninclude = [{{ exe = \"{}/.*\" }}]\n{config}", folder.path().display());
    HostAgent::start(name, &only)
}

/// A target under another name, so that nobody else's is watched.
fn copy(folder: &Folder, name: &str) -> PathBuf {
    let copy = folder.path().join(name);
    fs::copy(newest(), &copy).expect("copied");
    copy
}

/// The cell of a row of a table, by the title of its column.
fn cell(browser: &mut Browser, row: &str, column: &str) -> Option<String> {
    let cells = browser.value(&format!(
        "(() => {{ const titles = [...document.querySelectorAll('table.rows thead th')].map((head) => head.innerText.trim()); \
         const row = [...document.querySelectorAll('table.rows tbody:not(.pad) tr')].find((row) => row.innerText.includes('{row}')); \
         return row ? Object.fromEntries(titles.map((title, index) => [title, row.children[index].innerText.trim()])) : null; }})()"
    ));
    cells[column].as_str().map(str::to_owned)
}

/// Looks for barriers and takes a picture, by day and by night.
fn look(browser: &mut Browser, name: &str) {
    for scheme in ["light", "dark"] {
        browser.prefer(scheme);
        browser.resize(1280);
        browser.picture(&format!("{name}-{scheme}"));
        assert_eq!(browser.barriers(), [""; 0], "{name}, {scheme}");
    }
}

#[test]
fn the_page_shows_what_the_program_knows() {
    need!(gate::live(), gate::browser(), gate::file(&newest()));
    let folder = Folder::new("browser");
    let mut shop = Target::start(&copy(&folder, "shop"));
    let mut hostile = Target::start(&copy(&folder, HOSTILE));
    hostile.command("spawn method 12");
    let host = watching("browser", &folder, CONFIG);
    let pid = shop.pid();
    host.wait_until("the leak and its alert", |host| {
        shop.command("spawn chan 1");
        let alerts = host.get("/api/v1/alerts", &[]).body;
        let alerts: Value = serde_json::from_str(&alerts).unwrap_or_default();
        let fires = |alert: &Value| alert["pid"] == pid && alert["state"] == "firing";
        alerts["alerts"].as_array().is_some_and(|alerts| alerts.iter().any(fires))
    });
    let truth = shop.check();
    host.wait_live(pid, truth.num_goroutine);

    let mut browser = Browser::start();
    browser.open(&format!("http://{}/", host.address()));
    browser.wait_for("document.querySelector('#state').innerText === 'live'");
    browser.wait_for(&format!("document.body.innerText.includes('{}')", hostile.pid()));
    // The list: worst first, each with its figures.
    let row = format!("shop {pid}");
    assert_eq!(cell(&mut browser, &row, "Alive"), Some(thousands(truth.num_goroutine)));
    assert!(cell(&mut browser, &row, "Verdict").is_some_and(|verdict| verdict.starts_with("leak")));
    assert!(cell(&mut browser, &row, "Worst site").is_some_and(|site| site.starts_with("main.leakChan ")));
    let first = browser.text("table.rows tbody:not(.pad) tr");
    assert!(first.contains(&row), "worst first: {first}");
    let alive = hostile.check().num_goroutine.to_string();
    assert_eq!(cell(&mut browser, &hostile.pid().to_string(), "Alive"), Some(alive));
    look(&mut browser, "list");
    // By the keyboard alone: to the filter, to the row, into the process.
    browser.press("/");
    browser.write("shop leakchan");
    browser.wait_for("document.querySelectorAll('table.rows tbody:not(.pad) tr').length === 1");
    browser.value("document.querySelector('.window').focus()");
    browser.press("ArrowDown");
    browser.press("Enter");
    browser.wait_for(&format!("document.querySelector('main h1').innerText === 'shop pid {pid}'"));
    browser.wait_for("document.querySelector('table.rows').innerText.includes('main.leakChan')");
    let live = truth.sites["main.leakChan"].live;
    assert_eq!(cell(&mut browser, "main.leakChan", "Alive"), Some(thousands(live)));
    assert!(
        browser.text(".lead").starts_with(&format!("{} goroutines alive", thousands(truth.num_goroutine)))
    );
    browser.wait_for("document.querySelectorAll('.plot canvas').length === 4");
    browser.wait_for("document.querySelectorAll('.flame .frame').length > 1");
    look(&mut browser, "process");
    // The site, with its evidence.
    browser.value("document.querySelector('table.rows tbody a').click()");
    browser.wait_for("document.querySelector('main h1').innerText.startsWith('main.leakChan')");
    let report = host.report(pid).expect("watched");
    let site = report.process(pid).json()["sites"][0].clone();
    assert_eq!(site["function"], "main.leakChan");
    let shown = browser.text(".verdict");
    assert!(shown.starts_with("leak "), "{shown}");
    let figures = browser.text("dl.figures");
    assert!(figures.contains(&format!("Alive\n{}\n", thousands(live))), "{figures}");
    assert!(browser.text("ol.frames").contains("main.leakChan.func1"), "{}", browser.text("ol.frames"));
    look(&mut browser, "site");
    for (view, word) in [("alerts", "main.leakChan"), ("agent", "What it can do here")] {
        browser.go(&format!("#/{view}"));
        browser.wait_for(&format!("document.querySelector('main').innerText.includes('{word}')"));
        look(&mut browser, view);
    }

    // It is told of what changes, and of the end.
    browser.go(&format!("#/process/{pid}"));
    shop.command("spawn chan 7");
    let more = thousands(shop.check().num_goroutine);
    browser.wait_for(&format!("document.querySelector('.lead').innerText.startsWith('{more} goroutines')"));
    drop(shop);
    browser.wait_for("document.querySelector('#banner').innerText.startsWith('This process is not watched')");

    // Nothing was asked of anybody else, nothing went wrong, and no name became more than a text.
    let own = format!("http://{}/", host.address());
    let outside: Vec<String> =
        browser.asked_for().into_iter().filter(|address| !address.starts_with(&own)).collect();
    assert_eq!(outside, [""; 0]);
    assert_eq!(browser.complaints(), [""; 0]);
    assert_eq!(browser.value("document.querySelectorAll('img').length"), 0);
    assert!(!browser.value("document.title").to_string().contains("owned"));
    browser.go(&format!("#/process/{}", hostile.pid()));
    browser.wait_for("document.querySelector('main').innerText.includes('onerror=document.title')");
    let text = browser.text("main");
    assert!(text.contains("\\x1b[2J\\u{202e}") && !text.contains(['\u{1b}', '\u{202e}']), "{text}");
}

//! The agent's page in a real browser: what it shows is what the program knows, and no foreign name is more than a text.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

use leakwatch_tests::host::Answer;
use leakwatch_tests::process::eventually;
use leakwatch_tests::{Browser, HostAgent, Target, gate, matrix, need};
use serde_json::Value;

use crate::folder::Folder;
use crate::terminal::thousands;

/// Looks once a second, at the targets alone, and an alert for each leak.
const CONFIG: &str = "[sampling]\ninterval = \"1s\"\ncpu_percent = 50\n[promote]\ngrowth_per_min = 30\n\
                      [budget]\nprocess_percent = 100\nhost_percent = 100\n[[rule]]\npreset = \"leak\"\n";

/// How long a place may take to become free.
const PATIENCE: Duration = Duration::from_secs(30);

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

/// The bytes of a dump that the agent sends: in pieces, each with its length, and as text they need no more than a look.
fn post(host: &HostAgent, path: &str, headers: &str) -> Answer {
    let address = host.address();
    host.raw(&format!(
        "POST {path} HTTP/1.1\r\nHost: {address}\r\nContent-Length: 0\r\nConnection: close\r\n{headers}\r\n"
    ))
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

    // Who is let in because he asks from the machine is no page of somebody else's.
    let page = host.get("/", &[]);
    assert!(page.status == 200 && page.headers.contains("trusted-types 'none'"), "{}", page.headers);
    assert_eq!(host.get("/api/v1/events", &[("Sec-Fetch-Site", "cross-site")]).status, 403);
    let named = "GET /api/v1/processes HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n";
    assert_eq!(host.raw(named).status, 403);

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

#[test]
fn a_token_opens_the_page_and_has_dumps_made() {
    const TOKEN: &str = "0123456789abcdef0123";
    need!(gate::live(), gate::browser(), gate::file(&newest()));
    let folder = Folder::new("browser-token");
    let token = folder.path().join("token");
    fs::write(&token, TOKEN).expect("written");
    fs::set_permissions(&token, fs::Permissions::from_mode(0o600)).expect("set");
    let mut target = Target::start(&copy(&folder, "shop"));
    target.command("spawn chan 321");
    let config = format!(
        "[sampling]\ninterval = \"1s\"\n[http]\napi = \"auth\"\nbearer_token_file = \"{}\"\n",
        token.display()
    );
    let host = watching("browser-token", &folder, &config);
    let (pid, bearer) = (target.pid(), format!("Authorization: Bearer {TOKEN}\r\n"));
    let truth = target.check();

    // A dump: not without the token, not for a page of another site, not of who is not watched.
    let path = format!("/api/v1/dump?pid={pid}");
    assert_eq!(post(&host, &path, "").status, 401);
    assert_eq!(post(&host, &path, &format!("{bearer}Sec-Fetch-Site: cross-site\r\n")).status, 403);
    assert_eq!(host.get(&path, &[("Authorization", &format!("Bearer {TOKEN}"))]).status, 405);
    assert_eq!(post(&host, "/api/v1/dump?pid=1", &bearer).status, 404);
    assert_eq!(post(&host, &format!("{path}&format=xml"), &bearer).status, 400);
    let dump = post(&host, &path, &bearer);
    assert_eq!(dump.status, 200, "{}", dump.body);
    let dumped = dump.body.lines().filter(|line| line.starts_with("goroutine ")).count() as u64;
    assert_eq!(dumped, truth.num_goroutine, "{}", dump.body);
    let profile = post(&host, &format!("{path}&format=pprof"), &bearer);
    assert!(profile.headers.contains("application/octet-stream"), "{}", profile.headers);

    let mut browser = Browser::start();
    browser.open(&format!("http://{}/", host.address()));
    browser.wait_for("!document.querySelector('#gate').hidden");
    look(&mut browser, "gate");
    browser.value("document.querySelector('#secret').focus()");
    browser.write("a wrong one, to begin with");
    browser.press("Enter");
    browser.wait_for("document.querySelector('#secret').value === ''");
    browser.wait_for("!document.querySelector('#gate').hidden");
    browser.value("document.querySelector('#secret').focus()");
    browser.write(TOKEN);
    browser.press("Enter");
    browser.wait_for(&format!("document.querySelector('main').innerText.includes('shop {pid}')"));
    let dumped = browser.value(&format!(
        "import('/page/feed.js').then(async ({{ ask }}) => {{ const answer = await ask('{path}', {{ method: 'POST' }}); \
         return (await answer.text()).match(/^goroutine /gm).length; }})"
    ));
    assert_eq!(dumped, target.check().num_goroutine);
    // It is kept for the tab: the page can be loaded again.
    browser.open(&format!("http://{}/#/process/{pid}", host.address()));
    browser.wait_for(&format!("document.querySelector('main h1').innerText === 'shop pid {pid}'"));
    assert_eq!(browser.value("document.cookie"), "", "nothing is sent unasked");
}

/// Rows, sites and names that no test has programs for, given to the page's own modules.
#[test]
fn many_rows_cost_what_can_be_seen_and_names_are_texts() {
    need!(gate::live(), gate::browser(), gate::file(&newest()));
    let folder = Folder::new("browser-many");
    let host = watching("browser-many", &folder, "");
    // There is room for sixteen who listen, and whoever goes makes room.
    let listen = || {
        let mut stream = TcpStream::connect(host.address()).expect("the server takes connections");
        write!(stream, "GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("sent");
        let mut line = String::new();
        BufReader::new(&stream).read_line(&mut line).expect("an answer");
        (line.split(' ').nth(1).map(str::to_owned), stream)
    };
    let listeners: Vec<_> = (0..16).map(|_| listen()).collect();
    assert!(listeners.iter().all(|(status, _)| status.as_deref() == Some("200")), "{listeners:?}");
    assert_eq!(listen().0.as_deref(), Some("503"));
    drop(listeners);
    assert!(eventually(PATIENCE, || listen().0.as_deref() == Some("200")), "nobody's place becomes free");

    let mut browser = Browser::start();
    browser.open(&format!("http://{}/", host.address()));
    let made = browser.value(include_str!("browser/many.js"));
    gate::say(&format!(
        "500 processes and 5,000 sites in Chromium: {} ms and {} ms to begin with, {} ms for a turn, {} ms for a sort",
        made["list_ms"], made["sites_ms"], made["turn_ms"], made["sort_ms"]
    ));
    for rows in ["list_rows", "site_rows", "scrolled_rows"] {
        let rows = made[rows].as_u64().expect("a number");
        assert!((14..60).contains(&rows), "{rows} rows are in the document");
    }
    assert_eq!(made["order"], "live, as asked for");
    assert_eq!(made["last"], "made_4999", "the end can be reached");
    assert_eq!(made["focus"], "kept");
    // Markup, controls, changes of direction and 10 kB are texts of bounded length.
    assert_eq!((&made["elements"], &made["ran"]), (&0.into(), &false.into()));
    assert!(made["longest"].as_u64().is_some_and(|longest| longest <= 301), "{made}");
    assert_eq!(made["raw_controls"], 0);
    look(&mut browser, "many");
    assert_eq!(browser.complaints(), [""; 0]);
}

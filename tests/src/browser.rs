//! Chromium without a screen: opens pages, presses keys, takes pictures, and tells what a page asked for and complained of.
//!
//! It is spoken to by its `DevTools` protocol over a pipe (<https://chromedevtools.github.io/devtools-protocol/>; messages of
//! JSON, each ended by a NUL): no port, no driver, and no crate of thousands of generated types for the ten calls that tests
//! make.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::matrix::repository;
use crate::process::{Guard, Lines, eventually};

/// Debian's Chromium.
pub const CHROMIUM: &str = "/usr/bin/chromium";

/// How long an answer may take, and how long something to be on the page.
const PATIENCE: Duration = Duration::from_mins(1);

/// What Chromium does by itself and no test wants: it looks for Google's servers, mostly.
const QUIET: &str = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking \
                     --disable-component-update --disable-sync --disable-dev-shm-usage --hide-scrollbars --lang=en-US";

/// Browsers of this process so far.
static BROWSERS: AtomicU32 = AtomicU32::new(0);

/// Where axe-core is, which looks for barriers in a page.
pub fn axe() -> PathBuf {
    repository().join("target/leakwatch/tools/npm/axe-core/package/axe.min.js")
}

/// A browser with one page; killed when dropped, its profile removed.
#[derive(Debug)]
pub struct Browser {
    guard: Guard,
    to: ChildStdin,
    from: Lines,
    profile: PathBuf,
    session: Option<String>,
    calls: u64,
    /// What it told without being asked.
    events: Vec<Value>,
}

impl Browser {
    /// Starts one.
    #[track_caller]
    pub fn start() -> Self {
        let number = BROWSERS.fetch_add(1, Ordering::Relaxed);
        let profile =
            std::env::temp_dir().join(format!("leakwatch-chromium-{}-{number}", std::process::id()));
        // It reads from descriptor 3 and writes to 4; a shell can set these without a line of unsafe code.
        let line = format!(
            "exec {CHROMIUM} {QUIET} --remote-debugging-pipe --user-data-dir={} about:blank 3<&0 4>&1 </dev/null \
             >/dev/null 2>&1",
            profile.display()
        );
        let mut guard = Guard::start_as_is(
            Command::new("sh")
                .args(["-c", &line])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::null()),
        );
        let to = guard.child().stdin.take().expect("it is piped");
        let from = Lines::ending_in(0, guard.child().stdout.take().expect("it is piped"));
        let mut browser = Self { guard, to, from, profile, session: None, calls: 0, events: Vec::new() };
        let targets = browser.call("Target.getTargets", &json!({}));
        let pages = targets["targetInfos"].as_array().expect("a list");
        let page = pages.iter().find(|target| target["type"] == "page").expect("a page");
        let attached =
            browser.call("Target.attachToTarget", &json!({ "targetId": page["targetId"], "flatten": true }));
        browser.session = attached["sessionId"].as_str().map(str::to_owned);
        for domain in ["Page", "Runtime", "Log", "Network"] {
            browser.call(&format!("{domain}.enable"), &json!({}));
        }
        browser
    }

    /// Asks the browser for something.
    #[track_caller]
    fn call(&mut self, method: &str, parameters: &Value) -> Value {
        self.calls += 1;
        let mut message = json!({ "id": self.calls, "method": method, "params": parameters });
        if let Some(session) = &self.session {
            message["sessionId"] = session.as_str().into();
        }
        let mut bytes = message.to_string().into_bytes();
        bytes.push(0);
        self.to.write_all(&bytes).expect("Chromium listens");
        loop {
            let text = match self.from.next(PATIENCE) {
                Ok(text) => text,
                Err(why) => panic!("Chromium does not answer {method}: {why:?}"),
            };
            let answer: Value = serde_json::from_str(&text).expect("JSON");
            if answer["id"] == self.calls {
                assert!(answer["error"].is_null(), "{method}: {}", answer["error"]);
                return answer["result"].clone();
            }
            self.events.push(answer);
        }
    }

    /// Opens a page.
    #[track_caller]
    pub fn open(&mut self, address: &str) {
        self.call("Page.navigate", &json!({ "url": address }));
        self.wait_for("document.readyState === 'complete'");
    }

    /// The value of an expression in the page; a promise is waited for.
    #[track_caller]
    pub fn value(&mut self, expression: &str) -> Value {
        let asked = json!({ "expression": expression, "awaitPromise": true, "returnByValue": true });
        let answer = self.call("Runtime.evaluate", &asked);
        assert!(answer["exceptionDetails"].is_null(), "{expression}: {}", answer["exceptionDetails"]);
        answer["result"]["value"].clone()
    }

    /// Waits until an expression in the page is true.
    #[track_caller]
    pub fn wait_for(&mut self, expression: &str) {
        // A page that is just left has no value.
        let asked = json!({ "expression": expression, "returnByValue": true });
        let is = eventually(PATIENCE, || {
            self.call("Runtime.evaluate", &asked)["result"]["value"] == Value::Bool(true)
        });
        assert!(is, "{expression} does not come true; the page has:\n{}", self.text("body"));
    }

    /// The text of the first element that a selector names, as it is seen; empty where there is none.
    #[track_caller]
    pub fn text(&mut self, selector: &str) -> String {
        let expression = format!("document.querySelector({})?.innerText ?? ''", json!(selector));
        self.value(&expression).as_str().unwrap_or_default().to_owned()
    }

    /// Goes to another view of the page that is open.
    #[track_caller]
    pub fn go(&mut self, view: &str) {
        self.value(&format!("location.hash = {}", json!(view)));
    }

    /// Presses a key, by its name in the DOM: `Enter`, `ArrowDown`, `/`.
    #[track_caller]
    pub fn press(&mut self, key: &str) {
        let text = if key == "Enter" { "\r" } else { key };
        let typed = if text.chars().count() == 1 { json!(text) } else { Value::Null };
        let code = match key {
            "Enter" => 13,
            "Tab" => 9,
            "Escape" => 27,
            "ArrowUp" => 38,
            "ArrowDown" => 40,
            _ => 0,
        };
        for kind in ["keyDown", "keyUp"] {
            let mut event = json!({ "type": kind, "key": key, "windowsVirtualKeyCode": code });
            if kind == "keyDown" && !typed.is_null() {
                event["text"] = typed.clone();
            }
            self.call("Input.dispatchKeyEvent", &event);
        }
    }

    /// Types into what has the focus.
    #[track_caller]
    pub fn write(&mut self, text: &str) {
        self.call("Input.insertText", &json!({ "text": text }));
    }

    /// What the system prefers, `light` or `dark`.
    #[track_caller]
    pub fn prefer(&mut self, scheme: &str) {
        let features = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        self.call("Emulation.setEmulatedMedia", &json!({ "features": features }));
    }

    /// A window of this width, CSS pixels, as high as the page is.
    #[track_caller]
    pub fn resize(&mut self, width: u32) {
        let size = |height: u64| json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        self.call("Emulation.setDeviceMetricsOverride", &size(800));
        let height = self.value("document.documentElement.scrollHeight").as_u64().unwrap_or(800);
        self.call("Emulation.setDeviceMetricsOverride", &size(height.clamp(800, 8_000)));
    }

    /// Keeps a picture of the page under this name, in `target/leakwatch/browser`.
    #[track_caller]
    pub fn picture(&mut self, name: &str) -> PathBuf {
        // What follows a change of size or colours is drawn with the next frames.
        self.value("new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(drawn)))");
        let taken = self.call("Page.captureScreenshot", &json!({ "format": "png" }));
        let folder = repository().join("target/leakwatch/browser");
        std::fs::create_dir_all(&folder).expect("made");
        let path = folder.join(format!("{name}.png"));
        let data = taken["data"].as_str().expect("a picture");
        let bytes = data_encoding::BASE64.decode(data.as_bytes()).expect("base64");
        std::fs::write(&path, bytes).expect("written");
        path
    }

    /// Addresses that were asked for, by the page and by what it loads.
    pub fn asked_for(&self) -> Vec<String> {
        self.told("Network.requestWillBeSent", |told| told["request"]["url"].as_str().map(str::to_owned))
    }

    /// Errors: of scripts, of the policy, of what could not be loaded.
    pub fn complaints(&self) -> Vec<String> {
        let thrown = self.told("Runtime.exceptionThrown", |told| Some(told["exceptionDetails"].to_string()));
        let logged = self.told("Log.entryAdded", |told| {
            let entry = &told["entry"];
            (entry["level"] == "error").then(|| format!("{} {}", entry["text"], entry["url"]))
        });
        let written = self.told("Runtime.consoleAPICalled", |told| {
            matches!(told["type"].as_str(), Some("error" | "warning" | "assert"))
                .then(|| told["args"].to_string())
        });
        [thrown, logged, written].concat()
    }

    fn told(&self, method: &str, of: impl Fn(&Value) -> Option<String>) -> Vec<String> {
        let events = self.events.iter().filter(|event| event["method"] == method);
        events.filter_map(|event| of(&event["params"])).collect()
    }

    /// Barriers that axe-core finds in the page as it is, those that are serious or critical: rule, and where.
    #[track_caller]
    pub fn barriers(&mut self) -> Vec<String> {
        if self.value("typeof axe") == "undefined" {
            let source = std::fs::read_to_string(axe()).expect("the gate has seen it");
            self.value(&format!("{source}; null"));
        }
        let found = self.value(
            "axe.run(document, { resultTypes: ['violations'] }).then(({ violations }) => violations\
             .filter(({ impact }) => impact === 'serious' || impact === 'critical')\
             .map(({ id, nodes }) => `${id}: ${nodes.slice(0, 5).map(({ html, failureSummary }) => `${html} ${failureSummary}`).join('\\n')}`))",
        );
        let found = found.as_array().expect("a list");
        found.iter().map(|one| one.as_str().unwrap_or_default().to_owned()).collect()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        self.guard.signal(nix::sys::signal::Signal::SIGKILL);
        self.guard.wait(PATIENCE);
        remove(&self.profile);
    }
}

/// Children of a Chromium that was killed may still write for a moment.
fn remove(profile: &Path) {
    eventually(Duration::from_secs(5), || std::fs::remove_dir_all(profile).is_ok() || !profile.exists());
}

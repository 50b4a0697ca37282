//! The page at `/`: files that are compiled in, and the headers that keep a browser from doing anything else with them.
//!
//! The files say nothing of the machine: what they show they ask for at `/api/v1/…`, with whatever that wants of who asks. A
//! browser may run and load these files and nothing more, from nowhere else, in nobody's frame, and no text becomes markup.

use axum::{
    http::{HeaderValue, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};

/// What a browser may do with the page. Trusted Types without a policy: no script can turn text into markup.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; \
                      trusted-types 'none'";

const HTML: &str = "text/html; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const PICTURE: &str = "image/svg+xml";
const TEXT: &str = "text/plain; charset=utf-8";

/// A file: where, what, and its text.
struct File(&'static str, &'static str, &'static str);

/// A file of `assets/page`.
macro_rules! page {
    ($kind:expr, $name:literal) => {
        File(
            concat!("/page/", $name),
            $kind,
            include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/assets/page/", $name)),
        )
    };
}

const FILES: [File; 22] = [
    File("/", HTML, include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/assets/page/index.html"))),
    page!(PICTURE, "icon.svg"),
    page!(STYLE, "page.css"),
    page!(SCRIPT, "alerts.js"),
    page!(SCRIPT, "charts.js"),
    page!(SCRIPT, "dom.js"),
    page!(SCRIPT, "download.js"),
    page!(SCRIPT, "feed.js"),
    page!(SCRIPT, "flame.js"),
    page!(SCRIPT, "host.js"),
    page!(SCRIPT, "main.js"),
    page!(SCRIPT, "process.js"),
    page!(SCRIPT, "agent.js"),
    page!(SCRIPT, "site.js"),
    page!(SCRIPT, "table.js"),
    page!(SCRIPT, "theme.js"),
    page!(SCRIPT, "words.js"),
    // The colours of the report, one file for each preference.
    File("/page/light.css", STYLE, include_str!("../../../page/light.css")),
    File("/page/dark.css", STYLE, include_str!("../../../page/dark.css")),
    File(
        "/page/uplot.js",
        SCRIPT,
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/assets/vendor/uplot/uplot.js")),
    ),
    File(
        "/page/uplot.css",
        STYLE,
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/assets/vendor/uplot/uplot.css")),
    ),
    // Its licence goes wherever it goes.
    File(
        "/page/uplot.txt",
        TEXT,
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/assets/vendor/uplot/LICENSE")),
    ),
];

/// A path belongs to the page.
pub(super) fn is_page(path: &str) -> bool {
    path == "/" || path.starts_with("/page/")
}

/// One of the files.
pub(super) async fn file(uri: Uri) -> Response {
    let Some(File(_, kind, text)) = FILES.iter().find(|File(path, ..)| *path == uri.path()) else {
        return super::nothing().await;
    };
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(kind)),
        (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
        (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        (
            header::HeaderName::from_static("cross-origin-opener-policy"),
            HeaderValue::from_static("same-origin"),
        ),
        (
            header::HeaderName::from_static("cross-origin-resource-policy"),
            HeaderValue::from_static("same-origin"),
        ),
    ];
    (StatusCode::OK, headers, *text).into_response()
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, path::Path};

    use super::*;

    fn own() -> impl Iterator<Item = &'static File> {
        FILES.iter().filter(|File(path, ..)| !path.contains("uplot"))
    }

    #[test]
    fn every_file_of_the_page_is_served() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/page");
        let kept: BTreeSet<String> = std::fs::read_dir(folder)
            .expect("the folder")
            .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
            .filter(|name| name != "index.html" && name != "types.d.ts")
            .map(|name| format!("/page/{name}"))
            .collect();
        let served: BTreeSet<String> = FILES.iter().map(|File(path, ..)| (*path).to_owned()).collect();
        assert!(kept.is_subset(&served), "not served: {:?}", kept.difference(&served));
        assert_eq!(served.len(), FILES.len(), "each once");
    }

    #[test]
    fn nothing_leads_to_another_server() {
        for File(path, _, text) in &FILES {
            // A namespace is a name, and comments are read by people.
            let text = text.replace("http://www.w3.org/2000/svg", "");
            let code = |line: &&str| !line.trim_start().starts_with(['*', '/']);
            let code: String =
                text.lines().filter(code).map(|line| line.split("// ").next().unwrap_or(line)).collect();
            for outside in [
                "http:",
                "https:",
                "url(",
                "@import",
                "//cdn",
                "ws:",
                "wss:",
                "WebSocket",
                "sendBeacon",
                "Worker(",
            ] {
                assert!(!code.contains(outside), "{path} has {outside:?}");
            }
        }
    }

    #[test]
    fn the_policy_is_strict_and_the_page_keeps_it() {
        for allowed in ["unsafe", "*", "http", "data:", "blob:"] {
            assert!(!POLICY.contains(allowed), "{POLICY}");
        }
        for needed in
            ["default-src 'none'", "frame-ancestors 'none'", "trusted-types 'none'", "base-uri 'none'"]
        {
            assert!(POLICY.contains(needed), "{POLICY}");
        }
        let html = FILES[0].2;
        for inline in ["<style", "style=", "onclick", "onload", "javascript:", "<script>"] {
            assert!(!html.contains(inline), "{inline}");
        }
        // What the page loads is here.
        for part in html.split("href=\"/").skip(1).chain(html.split("src=\"/").skip(1)) {
            let path = format!("/{}", part.split('"').next().unwrap_or_default());
            assert!(FILES.iter().any(|File(served, ..)| *served == path), "{path}");
        }
        for File(path, _, text) in own().filter(|File(_, kind, _)| *kind == SCRIPT) {
            for markup in [
                "innerHTML",
                "outerHTML",
                "insertAdjacentHTML",
                "document.write",
                "eval(",
                "new Function",
                "DOMParser",
            ] {
                assert!(!text.contains(markup), "{path} has {markup}");
            }
            for line in text.lines().filter(|line| line.starts_with("import ")) {
                let module =
                    line.split("from \"./").nth(1).and_then(|rest| rest.split('"').next()).unwrap_or(line);
                assert!(
                    FILES.iter().any(|File(served, ..)| *served == format!("/page/{module}")),
                    "{path}: {module}"
                );
            }
        }
    }
}

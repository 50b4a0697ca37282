//! Which page of a browser asks: our own, none, or somebody else's.
//!
//! A browser on the machine runs pages of the whole world, and its requests come from the machine itself. What is let in for
//! that reason alone has to be told from what such a page sends behind its reader's back.

use std::net::IpAddr;

use axum::http::{HeaderMap, HeaderValue, header};

/// A page of another site asks (<https://www.w3.org/TR/fetch-metadata/>); who sends no such header is no browser, or the
/// reader's own hand.
pub(super) fn is_another_page(headers: &HeaderMap) -> bool {
    let site = headers.get("sec-fetch-site").map(HeaderValue::as_bytes);
    matches!(site, Some(site) if site != b"same-origin" && site != b"none")
}

/// The server was asked for as an address or as `localhost`. Any other name may be one that somebody made to lead here, so
/// that a page of his counts as one of ours (DNS rebinding).
pub(super) fn names_the_machine(headers: &HeaderMap) -> bool {
    let Some(host) = headers.get(header::HOST) else { return true };
    let Ok(host) = host.to_str() else { return false };
    let name = match host.strip_prefix('[') {
        Some(v6) => v6.split_once(']').map_or("", |(address, _port)| address),
        None => host.rsplit_once(':').map_or(host, |(name, _port)| name),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(name: &'static str, value: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(name, HeaderValue::from_str(value).expect("a header"));
        headers
    }

    #[test]
    fn only_addresses_and_localhost_are_the_machine_itself() {
        for host in [
            "127.0.0.1",
            "127.0.0.1:9464",
            "localhost:9464",
            "LOCALHOST",
            "[::1]:9464",
            "[::1]",
            "10.0.0.7:80",
        ] {
            assert!(names_the_machine(&with("host", host)), "{host}");
        }
        for host in
            ["evil.example:9464", "evil.example", "localhost.evil.example", "", ":9464", "[evil]:1", "[::1"]
        {
            assert!(!names_the_machine(&with("host", host)), "{host}");
        }
        assert!(names_the_machine(&HeaderMap::new()), "HTTP/1.0 has no Host, and no browser speaks it");
    }

    #[test]
    fn pages_of_others_are_known_by_what_the_browser_says() {
        for site in ["cross-site", "same-site", "anything"] {
            assert!(is_another_page(&with("sec-fetch-site", site)), "{site}");
        }
        for site in ["same-origin", "none"] {
            assert!(!is_another_page(&with("sec-fetch-site", site)), "{site}");
        }
        assert!(!is_another_page(&HeaderMap::new()));
    }
}

//! Answers in gzip for whoever takes that, as `Accept-Encoding` says (RFC 9110, 12.5.3).
//!
//! Only an answer that is whole in memory is compressed, on the server's one thread and so one at a time: it takes the compressor's own
//! state and what comes out, which stays in the place of what went in. What is sent while it is made, events and dumps, stays as it is.
//! Must never answer with a coding that was not asked for, nor compress what holds a secret beside what a stranger says
//! (<https://www.rfc-editor.org/rfc/rfc7457#section-2.6>): no answer repeats a request.

use std::io::{self, Write as _};

use axum::{
    body::{Body, Bytes, HttpBody as _, to_bytes},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::Response,
};
use flate2::{Compression, write::GzEncoder};

use super::text;

/// Smaller answers go in one packet as they are.
const LEAST: u64 = 1_024;

/// The fastest level: the metrics of many programs shrink to a twentieth by it, and no level takes a third off that (docs/metrics.md).
const LEVEL: u32 = 1;

/// Which codings may be answered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Accepted {
    /// gzip, and nothing is liked better that there is.
    gzip: bool,
    /// None.
    identity: bool,
}

impl Accepted {
    /// What a request says. Without the header any coding may be answered with; whoever does not ask for one gets none.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let (mut gzip, mut identity, mut others) = (None, None, None);
        let values = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
        for coding in values.flat_map(|value| value.split(',')) {
            let mut parts = coding.split(';').map(str::trim);
            let name = parts.next().unwrap_or_default().to_ascii_lowercase();
            let quality = quality(parts);
            let place = match name.as_str() {
                // The older name (RFC 9110, 8.4.1.3).
                "gzip" | "x-gzip" => &mut gzip,
                "identity" => &mut identity,
                "*" => &mut others,
                _ => continue,
            };
            *place = (*place).max(Some(quality));
        }
        let is_off = |quality: Option<u16>| quality == Some(0);
        let none = identity.or_else(|| others.filter(|&others| others == 0));
        let gzip = gzip.or(others).unwrap_or(0);
        Self { gzip: gzip > 0 && identity.is_none_or(|identity| gzip >= identity), identity: !is_off(none) }
    }
}

/// What `q` says among the parameters of a coding, in thousandths; what is no such number is 0, for it may have been meant so.
fn quality<'a>(mut parameters: impl Iterator<Item = &'a str>) -> u16 {
    let value = parameters.find_map(|part| {
        let (name, value) = part.split_once('=')?;
        name.trim().eq_ignore_ascii_case("q").then_some(value.trim())
    });
    let Some(value) = value else { return 1_000 };
    let (whole, rest) = value.split_once('.').unwrap_or((value, ""));
    let thousandths = match rest.len() {
        0..=3 if rest.bytes().all(|digit| digit.is_ascii_digit()) => format!("{rest:0<3}").parse().ok(),
        _ => None,
    };
    match (whole, thousandths) {
        ("0", Some(thousandths)) => thousandths,
        ("1", Some(0)) => 1_000,
        _ => 0,
    }
}

/// The answer in a coding that is accepted.
pub(super) async fn coded(accepted: Accepted, response: Response) -> Response {
    let Some(size) = response.body().size_hint().exact() else { return response };
    if !response.status().is_success() || !is_text(response.headers()) {
        return response;
    }
    let compress = accepted.gzip && (size >= LEAST || !accepted.identity);
    if !compress && !accepted.identity {
        return text(StatusCode::NOT_ACCEPTABLE, "this is to be had as it is, or in gzip\n");
    }
    let (mut head, body) = response.into_parts();
    head.headers.append(header::VARY, HeaderValue::from_static("accept-encoding"));
    if !compress {
        return Response::from_parts(head, body);
    }
    match to_bytes(body, usize::MAX).await.map_err(io::Error::other).and_then(|body| gzip(&body)) {
        Ok(body) => {
            head.headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            head.headers.remove(header::CONTENT_LENGTH);
            Response::from_parts(head, Body::from(body))
        }
        // Neither fails for bytes that are in memory.
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, &format!("it cannot be compressed: {error}\n")),
    }
}

/// It is what this server says, and not compressed already.
fn is_text(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default();
    let is = kind.starts_with("text/")
        || [
            "application/json",
            "application/openmetrics-text",
            "application/vnd.google.protobuf",
            "image/svg+xml",
        ]
        .contains(&kind);
    is && !headers.contains_key(header::CONTENT_ENCODING)
}

fn gzip(body: &Bytes) -> io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::new(LEVEL));
    encoder.write_all(body)?;
    let mut body = encoder.finish()?;
    // It may wait for a slow reader.
    body.shrink_to_fit();
    Ok(body)
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use axum::response::IntoResponse as _;

    use super::*;

    #[test]
    fn who_asks_for_gzip_gets_it_and_nobody_else() {
        let plain = Accepted { gzip: false, identity: true };
        let either = Accepted { gzip: true, identity: true };
        let gzip = Accepted { gzip: true, identity: false };
        let neither = Accepted { gzip: false, identity: false };
        for (asked, accepted) in [
            // Prometheus 2.42 and 3, Go's client, curl --compressed, a browser.
            ("gzip", either),
            ("deflate, gzip, br, zstd", either),
            ("gzip, deflate, br;q=0.9", either),
            ("", plain),
            ("identity", plain),
            ("br", plain),
            ("deflate;q=1.0, br", plain),
            ("x-gzip", either),
            ("GZip ; Q=0.5", either),
            ("gzip;q=0.001", either),
            ("gzip;q=0", plain),
            ("gzip;q=0.000, deflate", plain),
            ("gzip;q=0, *", plain),
            ("*;q=0.5", either),
            ("*", either),
            ("gzip;q=0.5, identity", plain),
            ("identity;q=0.5, gzip;q=0.8", either),
            ("gzip, identity", either),
            ("gzip, identity;q=0", gzip),
            ("gzip, *;q=0", gzip),
            ("identity;q=0", neither),
            ("*;q=0", neither),
            ("*;q=0, identity", plain),
            ("br, *;q=0", neither),
            // What nobody can have meant asks for nothing.
            ("gzip;q=1.5", plain),
            ("gzip;q=x", plain),
            ("gzip;q=-1", plain),
            ("gzip;q=0.0001", plain),
            ("gzip;q=inf", plain),
            (";,;=,q", plain),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static(asked));
            assert_eq!(Accepted::of(&headers), accepted, "{asked:?}");
        }
        assert_eq!(Accepted::of(&HeaderMap::new()), plain);
        let mut two = HeaderMap::new();
        two.append(header::ACCEPT_ENCODING, HeaderValue::from_static("identity;q=0"));
        two.append(header::ACCEPT_ENCODING, HeaderValue::from_static("gzip"));
        assert_eq!(Accepted::of(&two), gzip);
    }

    /// Status, coding, whether it varies, and the body of an answer.
    async fn answer(accepted: Accepted, response: Response) -> (u16, Option<String>, bool, Vec<u8>) {
        let response = coded(accepted, response).await;
        let header =
            |name| response.headers().get(name).map(|value| value.to_str().expect("text").to_owned());
        let (coding, varies) = (header(header::CONTENT_ENCODING), header(header::VARY).is_some());
        let status = response.status().as_u16();
        let body = to_bytes(response.into_body(), usize::MAX).await.expect("in memory");
        (status, coding, varies, body.to_vec())
    }

    #[tokio::test]
    async fn what_is_large_is_compressed_and_comes_out_as_it_went_in() {
        let either = Accepted { gzip: true, identity: true };
        let large = "leakwatch_tasks_live{pid=\"7\"} 41\n".repeat(100);
        let json =
            |body: &str| ([(header::CONTENT_TYPE, "application/json")], body.to_owned()).into_response();
        let (status, coding, varies, body) = answer(either, json(&large)).await;
        assert_eq!((status, coding.as_deref(), varies), (200, Some("gzip"), true));
        assert!(body.len() < large.len() / 5);
        let mut plain = String::new();
        flate2::read::GzDecoder::new(&*body).read_to_string(&mut plain).expect("gzip");
        assert_eq!(plain, large);

        let as_it_is = (200, None, true);
        let of = |(status, coding, varies, body): (u16, Option<String>, bool, Vec<u8>)| {
            ((status, coding, varies), String::from_utf8(body).expect("a text"))
        };
        assert_eq!(of(answer(either, json("small")).await), (as_it_is.clone(), "small".to_owned()));
        let plain = Accepted { gzip: false, identity: true };
        assert_eq!(of(answer(plain, json(&large)).await), (as_it_is, large.clone()));
        let alone = Accepted { gzip: true, identity: false };
        assert_eq!(answer(alone, json("small")).await.1.as_deref(), Some("gzip"));
        let neither = Accepted { gzip: false, identity: false };
        assert_eq!(answer(neither, json(&large)).await.0, 406);
    }

    #[tokio::test]
    async fn errors_streams_and_what_is_compressed_already_stay_as_they_are() {
        let either = Accepted { gzip: true, identity: true };
        let large = "x".repeat(10_000);
        let refused = text(StatusCode::UNAUTHORIZED, &large);
        let profile = ([(header::CONTENT_TYPE, "application/octet-stream")], large.clone()).into_response();
        let pieces = futures_util::stream::iter([Ok::<_, io::Error>(large.clone())]);
        let stream = ([(header::CONTENT_TYPE, "text/plain")], Body::from_stream(pieces)).into_response();
        for response in [refused, profile, stream] {
            let (_, coding, varies, body) = answer(either, response).await;
            assert_eq!((coding, varies, body), (None, false, large.clone().into_bytes()));
        }
    }
}

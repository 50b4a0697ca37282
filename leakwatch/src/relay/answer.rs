//! What an answer means for what was sent.

use std::time::Duration;

use reqwest::{RequestBuilder, StatusCode};

use super::RelayError;
use crate::http::{self, Authorization, Reply};
use crate::report::Timestamp;

/// A receiver that says nothing for so long is not there.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// Bytes of an answer that are looked at.
const MOST: usize = 1 << 16;

/// What a receiver said.
#[derive(Debug)]
pub(super) enum Answer {
    /// It has it; the beginning of its answer.
    Taken(Vec<u8>),
    /// It will never have it.
    Refused(String),
    /// It may have it later, and not before this long.
    Later(String, Option<Duration>),
}

/// A client for this setting.
pub(super) fn client(what: &'static str) -> Result<reqwest::Client, RelayError> {
    http::client(PATIENCE).map_err(|why| RelayError::Unusable { what, why })
}

/// The address in this setting.
pub(super) fn url(what: &'static str, text: &str) -> Result<reqwest::Url, RelayError> {
    http::url(text).map_err(|why| RelayError::Unusable { what, why })
}

/// Sends, and returns the answer; `Err`: why there is none.
pub(super) async fn ask(request: RequestBuilder, authorization: &Authorization) -> Result<Reply, String> {
    http::send(authorization.apply(request)?, MOST).await
}

/// What an answer means.
///
/// A refusal of the request itself (400, 413, 422, …) is for good. One of us (401, 403), of the place (404, 405) or of the
/// protocol (415) is about the settings: nothing is given up for it. `now` is for whoever says by a date when to try again.
pub(super) fn judge(reply: Result<Reply, String>, now: Timestamp) -> Answer {
    const SETTINGS: [StatusCode; 7] = [
        StatusCode::UNAUTHORIZED,
        StatusCode::FORBIDDEN,
        StatusCode::NOT_FOUND,
        StatusCode::METHOD_NOT_ALLOWED,
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        StatusCode::REQUEST_TIMEOUT,
        StatusCode::TOO_MANY_REQUESTS,
    ];
    match reply {
        Ok(reply) if reply.status.is_success() => Answer::Taken(reply.body),
        Ok(reply) if reply.status.is_client_error() && !SETTINGS.contains(&reply.status) => {
            Answer::Refused(reply.said())
        }
        Ok(reply) => Answer::Later(reply.said(), reply.wait(now)),
        Err(why) => Answer::Later(why, None),
    }
}

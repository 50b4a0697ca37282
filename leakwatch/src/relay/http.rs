//! One request by HTTP, and what its answer means for whoever sent it.

use std::path::PathBuf;
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, HeaderValue, RETRY_AFTER};
use reqwest::{RequestBuilder, StatusCode};

use super::RelayError;

/// A receiver that says nothing for so long is not there.
const PATIENCE: Duration = Duration::from_secs(30);

/// The longest wait that a receiver may ask for.
const LONGEST_WAIT: Duration = Duration::from_mins(5);

/// Bytes of a refusal that are repeated to the user.
const SAID: usize = 300;

/// Who we are to a receiver. Secrets are in files, which are read at each use: they may change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Authorization {
    /// Nobody.
    #[default]
    None,
    /// The bearer of the token in this file.
    Bearer(PathBuf),
    /// A user, with the password in this file.
    Basic(String, PathBuf),
}

impl Authorization {
    /// Adds the header.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub(super) fn apply(&self, request: RequestBuilder) -> Result<RequestBuilder, String> {
        match self {
            Self::None => Ok(request),
            Self::Bearer(_) => {
                let mut value = HeaderValue::try_from(self.bearer()?.unwrap_or_default())
                    .map_err(|_invisible| "the token has characters that no header may have".to_owned())?;
                value.set_sensitive(true);
                Ok(request.header(AUTHORIZATION, value))
            }
            Self::Basic(user, file) => Ok(request.basic_auth(user, Some(secret(file)?))),
        }
    }

    /// The header's value for a bearer; `None` for others.
    pub(super) fn bearer(&self) -> Result<Option<String>, String> {
        match self {
            Self::Bearer(file) => Ok(Some(format!("Bearer {}", secret(file)?))),
            _ => Ok(None),
        }
    }
}

fn secret(file: &std::path::Path) -> Result<String, String> {
    let text =
        std::fs::read_to_string(file).map_err(|error| format!("cannot read {}: {error}", file.display()))?;
    Ok(text.trim().to_owned())
}

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

/// A client that follows no redirection, by which data would go where nobody sent it.
pub(super) fn client(what: &'static str) -> Result<reqwest::Client, RelayError> {
    reqwest::Client::builder()
        .timeout(PATIENCE)
        .connect_timeout(PATIENCE / 3)
        .redirect(reqwest::redirect::Policy::none())
        .user_agent(concat!("leakwatch/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|error| RelayError::Unusable { what, why: error.to_string() })
}

/// A URL that can be sent to.
pub(super) fn url(what: &'static str, text: &str) -> Result<reqwest::Url, RelayError> {
    let unusable = |why: String| RelayError::Unusable { what, why };
    let url = reqwest::Url::parse(text).map_err(|error| unusable(format!("{text:?}: {error}")))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err(unusable(format!("{text:?}: expected one like http://HOST:PORT/PATH")));
    }
    Ok(url)
}

/// Sends, and tells what the answer means.
///
/// A refusal of the request itself (400, 413, 422, …) is for good. One of us (401, 403), of the place (404, 405) or of the
/// protocol (415) is about the settings: nothing is given up for it.
pub(super) async fn send(request: RequestBuilder) -> Answer {
    let mut response = match request.send().await {
        Ok(response) => response,
        Err(error) => return Answer::Later(with_causes(&error), None),
    };
    let status = response.status();
    let after =
        response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    let after = after.map(|seconds| Duration::from_secs(seconds).min(LONGEST_WAIT));
    let mut body = Vec::new();
    while body.len() < 1 << 16
        && let Ok(Some(chunk)) = response.chunk().await
    {
        body.extend_from_slice(&chunk);
    }
    if status.is_success() {
        return Answer::Taken(body);
    }
    let said: String =
        String::from_utf8_lossy(&body).chars().take(SAID).filter(|c| !c.is_control()).collect();
    let said = format!("it answers {status}: {said}");
    let settings = [
        StatusCode::UNAUTHORIZED,
        StatusCode::FORBIDDEN,
        StatusCode::NOT_FOUND,
        StatusCode::METHOD_NOT_ALLOWED,
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        StatusCode::REQUEST_TIMEOUT,
        StatusCode::TOO_MANY_REQUESTS,
    ];
    if status.is_client_error() && !settings.contains(&status) {
        Answer::Refused(said)
    } else {
        Answer::Later(said, after)
    }
}

/// An error with what lies below it: reqwest's own sentence says the URL alone.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

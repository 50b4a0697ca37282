//! Requests by HTTP to whoever takes what leakwatch tells, or answers what it asks: one client, secrets out of files, and
//! how long to wait before the next attempt.
//!
//! What an answer means is for whoever asked. It must never follow a redirection or a proxy of the environment, by which data
//! would go where nobody sent it, never read more of an answer than it was told to, and never repeat a secret.

use std::{
    hash::{BuildHasher as _, Hasher as _, RandomState},
    io::Read as _,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use jiff::Timestamp;
use reqwest::{
    Client, RequestBuilder, StatusCode, Url,
    header::{AUTHORIZATION, DATE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER},
};

/// The longest wait that a receiver may ask for.
const LONGEST_WAIT: Duration = Duration::from_mins(5);

/// Characters of an answer that are repeated to the user.
const SAID: usize = 300;

/// Largest file with a secret.
const SECRET: u64 = 64 << 10;

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
    /// The bearer of the token in this file, if there is one.
    pub fn bearer_of(file: Option<&Path>) -> Self {
        file.map_or(Self::None, |file| Self::Bearer(file.to_owned()))
    }

    /// Adds the header.
    ///
    /// # Errors
    /// When the file cannot be read, or has what no header may have.
    pub fn apply(&self, request: RequestBuilder) -> Result<RequestBuilder, String> {
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
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn bearer(&self) -> Result<Option<String>, String> {
        match self {
            Self::Bearer(file) => Ok(Some(format!("Bearer {}", secret(file)?))),
            _ => Ok(None),
        }
    }
}

fn secret(file: &Path) -> Result<String, String> {
    let mut text = String::new();
    std::fs::File::open(file)
        .and_then(|file| file.take(SECRET).read_to_string(&mut text))
        .map_err(|error| format!("cannot read {}: {error}", file.display()))?;
    Ok(text.trim().to_owned())
}

/// A client; a request and its answer take no longer than this.
///
/// # Errors
/// When the system's certificates cannot be used.
pub fn client(timeout: Duration) -> Result<Client, String> {
    Client::builder()
        .timeout(timeout)
        .connect_timeout(timeout / 3)
        .redirect(reqwest::redirect::Policy::none())
        // What a proxy of the environment is told of is for whoever sets it up to say, not for a daemon to pick up.
        .no_proxy()
        .user_agent(concat!("leakwatch/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|error| with_causes(&error))
}

/// An address that can be asked.
///
/// # Errors
/// When it is none.
pub fn url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| format!("{text:?}: {error}"))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err(format!("{text:?}: expected one like http://HOST:PORT/PATH"));
    }
    Ok(url)
}

/// A place below an address. What the address asks for besides (`?…`) stays behind it.
pub fn below(url: &Url, path: &str) -> Url {
    let mut below = url.clone();
    below.set_path(&format!("{}{path}", url.path().trim_end_matches('/')));
    below
}

/// An address without what it may have of secrets: users, passwords, queries.
pub fn place(url: &Url) -> String {
    let port = url.port_or_known_default().unwrap_or_default();
    format!("{}:{port}{}", url.host_str().unwrap_or_default(), url.path())
}

/// What was answered.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, or its beginning.
    pub body: Vec<u8>,
    /// It is the whole body.
    pub is_whole: bool,
}

impl Reply {
    /// How long the receiver wants to be left alone, if it says so (`Retry-After`), five minutes at most. A date is by its own clock,
    /// where it shows that, else by ours, which shows `now`.
    pub fn wait(&self, now: Timestamp) -> Option<Duration> {
        Again::of(&self.headers)?.wait(now)
    }

    /// Half a sentence: `it answers 404 Not Found: no such page`.
    pub fn said(&self) -> String {
        let text = String::from_utf8_lossy(&self.body);
        let said: String = text.trim().chars().filter(|c| !c.is_control()).take(SAID).collect();
        let colon = if said.is_empty() { "" } else { ": " };
        format!("it answers {}{colon}{said}", self.status)
    }
}

/// When a receiver wants to be asked again (`Retry-After`, RFC 9110, 10.2.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Again {
    /// After this long.
    In(Duration),
    /// At this time; what the receiver's clock showed when it answered, if it says so.
    At(SystemTime, Option<SystemTime>),
}

impl Again {
    fn of(headers: &HeaderMap) -> Option<Self> {
        let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
        let said = text(RETRY_AFTER)?;
        if !said.is_empty() && said.bytes().all(|digit| digit.is_ascii_digit()) {
            // More seconds than there are numbers for are many.
            return Some(Self::In(Duration::from_secs(said.parse().unwrap_or(u64::MAX))));
        }
        let date = |text: &str| httpdate::parse_http_date(text).ok();
        Some(Self::At(date(said)?, text(DATE).and_then(date)))
    }

    fn wait(self, now: Timestamp) -> Option<Duration> {
        wait_of(match self {
            Self::In(wait) => wait,
            Self::At(then, shown) => then.duration_since(shown.unwrap_or(now.into())).unwrap_or_default(),
        })
    }
}

/// A wait that a receiver asks for, within bounds. `None` for none: that it may be asked now says nothing of when.
pub fn wait_of(asked: Duration) -> Option<Duration> {
    (!asked.is_zero()).then_some(asked.min(LONGEST_WAIT))
}

/// Sends, and takes the answer, `most` bytes of its body at most.
///
/// # Errors
/// When there is no answer.
pub async fn send(request: RequestBuilder, most: usize) -> Result<Reply, String> {
    // The address may have secrets in it, and whoever asks knows it.
    let mut response = request.send().await.map_err(|error| with_causes(&error.without_url()))?;
    let headers = response.headers().clone();
    let mut body = Vec::new();
    let is_whole = loop {
        match response.chunk().await {
            Ok(Some(chunk)) => body.extend_from_slice(&chunk),
            Ok(None) => break body.len() <= most,
            Err(_cut) => break false,
        }
        if body.len() > most {
            break false;
        }
    };
    body.truncate(most);
    Ok(Reply { status: response.status(), headers, body, is_whole })
}

/// How long to wait after so many failures in a row, one at least: half a second, doubled each time, 30 s at most, and by
/// chance up to half less or more, so that many who wait do not come at once.
pub fn backoff(failures: u32) -> Duration {
    const FIRST: Duration = Duration::from_millis(500);
    const LONGEST: Duration = Duration::from_secs(30);
    let doubled = FIRST.saturating_mul(1 << failures.saturating_sub(1).min(10)).min(LONGEST);
    // The standard library's hashers begin with random keys.
    let chance = RandomState::new().build_hasher().finish() % 1_000;
    doubled / 2 + doubled.mul_f64(f64::from(u32::try_from(chance).unwrap_or(0)) / 1_000.0)
}

/// An error with what lies below it: the sentences of reqwest and tonic alone say next to nothing.
pub fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_and_end_somewhere() {
        for (failures, least, most) in
            [(1, 250, 750), (2, 500, 1_500), (4, 2_000, 6_000), (40, 15_000, 45_000)]
        {
            let wait = backoff(failures).as_millis();
            assert!((least..=most).contains(&wait), "{failures}: {wait}");
        }
    }

    #[test]
    fn receivers_say_when_to_come_again_in_seconds_or_by_a_date() {
        let now: Timestamp = "1994-11-06T08:49:07Z".parse().expect("a time");
        let wait = |said: &'static str, date: Option<&'static str>| {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, HeaderValue::from_static(said));
            headers.extend(date.map(|date| (DATE, HeaderValue::from_static(date))));
            Again::of(&headers).and_then(|again| again.wait(now)).map(|wait| wait.as_secs())
        };
        for (said, seconds) in [
            ("7", Some(7)),
            (" 120 ", Some(120)),
            ("86400", Some(300)),
            ("99999999999999999999999", Some(300)),
            ("0", None),
            ("-3", None),
            ("1.5", None),
            ("soon", None),
            ("", None),
            // The three forms of RFC 9110, 5.6.7.
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(30)),
            ("Sunday, 06-Nov-94 08:49:37 GMT", Some(30)),
            ("Sun Nov  6 08:49:37 1994", Some(30)),
            ("Sun, 06 Nov 1994 08:49:07 GMT", None),
            ("Sun, 06 Nov 1994 08:48:00 GMT", None),
            ("Sat, 06 Nov 2094 08:49:37 GMT", Some(300)),
            ("Sun, 99 Nov 1994 08:49:37 GMT", None),
        ] {
            assert_eq!(wait(said, None), seconds, "{said:?}");
        }
        // A receiver whose clock is a century ahead of ours, and one whose clock it does not tell in a way that can be read.
        let ahead = "Sat, 06 Nov 2094 08:49:37 GMT";
        assert_eq!(wait(ahead, Some("Sat, 06 Nov 2094 08:49:27 GMT")), Some(10));
        assert_eq!(wait("Sun, 06 Nov 1994 08:49:37 GMT", Some(ahead)), None);
        assert_eq!(wait("Sun, 06 Nov 1994 08:49:37 GMT", Some("now")), Some(30));
        assert_eq!(wait("9", Some(ahead)), Some(9));
        assert_eq!(Again::of(&HeaderMap::new()), None);
    }

    #[test]
    fn addresses() {
        let fine = url("http://user:password@prometheus:9090/x?token=1").expect("an address");
        assert_eq!(place(&fine), "prometheus:9090/x");
        for (text, wanted) in
            [("prometheus:9090", "expected one like"), ("ftp://x", "expected one like"), ("//", "\"//\": ")]
        {
            let error = url(text).expect_err(text);
            assert!(error.contains(wanted), "{error}");
        }
    }

    #[test]
    fn a_place_below_an_address_keeps_what_is_asked_for() {
        let below = |text: &str| below(&url(text).expect("an address"), "/v1/logs").to_string();
        assert_eq!(below("http://collector:4318"), "http://collector:4318/v1/logs");
        assert_eq!(below("http://collector:4318/otlp/?key=k"), "http://collector:4318/otlp/v1/logs?key=k");
    }

    #[tokio::test]
    async fn what_fails_does_not_tell_the_address() {
        // Nobody listens there.
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("its number");
        drop(listener);
        let client = client(Duration::from_secs(30)).expect("a client");
        let request = client.get(format!("http://user:sesame1@{address}/write?token=sesame2"));
        let error = send(request, 10).await.expect_err("nobody is there");
        assert!(!error.contains("sesame") && error.contains("Connection refused"), "{error}");
    }

    #[test]
    fn what_is_repeated_is_short_and_on_one_line() {
        let body = format!("no\nsuch {}", "page ".repeat(100)).into_bytes();
        let headers = HeaderMap::new();
        let reply = Reply { status: StatusCode::NOT_FOUND, headers, body, is_whole: true };
        let said = reply.said();
        assert!(said.starts_with("it answers 404 Not Found: nosuch page") && said.len() < 340, "{said}");
    }

    #[test]
    fn secrets_are_read_from_files() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), "s3cret\n").expect("written");
        let bearer = Authorization::bearer_of(Some(file.path()));
        assert_eq!(bearer.bearer().expect("read").as_deref(), Some("Bearer s3cret"));
        assert!(!format!("{bearer:?}").contains("s3cret"));
        let missing = Authorization::bearer_of(Some(Path::new("/no/such"))).bearer().expect_err("no file");
        assert!(missing.starts_with("cannot read /no/such: "), "{missing}");
        assert_eq!(Authorization::bearer_of(None).bearer(), Ok(None));
    }
}

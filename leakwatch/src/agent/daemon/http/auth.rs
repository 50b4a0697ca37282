//! Who may ask: a bearer token, or a user's password.
//!
//! Only hashes are kept, and they are compared in the same time whatever they are: neither a word nor where it first differs
//! can be learnt from how long a refusal takes. A file with secrets that others may read is refused.

use std::path::Path;

use anyhow::{Context as _, bail};
use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use sha2::{Digest as _, Sha256};
use subtle::{Choice, ConstantTimeEq as _};

use crate::agent::daemon::{
    files,
    options::{Access, Http},
};

/// The longest `Authorization` that is looked at.
const LONGEST: usize = 4096;

type Hash = [u8; 32];

/// Hashes of all that lets somebody in.
#[derive(Default)]
pub(super) struct Secrets {
    /// Of a token.
    token: Option<Hash>,
    /// Of a user's name, and of the password.
    passwords: Vec<(Hash, Hash)>,
}

/// Never shows what it holds.
impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Secrets").finish_non_exhaustive()
    }
}

impl Secrets {
    /// From the files that are named.
    ///
    /// # Errors
    /// When one cannot be read, others may read it, or it is not what it must be.
    pub(super) fn read(options: &Http) -> anyhow::Result<Self> {
        let mut secrets = Self::default();
        if let Some(path) = &options.bearer_token_file {
            let text = files::secret(path)?;
            secrets.token = Some(token(text.trim()).with_context(|| place(path))?);
        }
        if let Some(path) = &options.basic_users_file {
            let text = files::secret(path)?;
            for (number, line) in text.lines().enumerate() {
                let line = line.trim();
                if !line.is_empty() && !line.starts_with('#') {
                    let user = user(line).with_context(|| format!("{}:{}", path.display(), number + 1))?;
                    secrets.passwords.push(user);
                }
            }
        }
        Ok(secrets)
    }

    /// Whether this header lets somebody in.
    pub(super) fn allow(&self, header: Option<&HeaderValue>) -> bool {
        let Some(value) = header.map(HeaderValue::as_bytes).filter(|value| value.len() <= LONGEST) else {
            return false;
        };
        let Some(space) = value.iter().position(|&byte| byte == b' ') else { return false };
        let (scheme, rest) = value.split_at(space);
        let rest = rest.trim_ascii();
        if scheme.eq_ignore_ascii_case(b"bearer") {
            let given = hash(rest);
            return self.token.is_some_and(|token| token.ct_eq(&given).into());
        }
        if scheme.eq_ignore_ascii_case(b"basic") {
            return decode(rest).is_some_and(|pair| self.allow_user(&pair));
        }
        false
    }

    fn allow_user(&self, pair: &[u8]) -> bool {
        let Some(colon) = pair.iter().position(|&byte| byte == b':') else { return false };
        let (name, password) = pair.split_at(colon);
        let (name, password) = (hash(name), hash(password.get(1..).unwrap_or_default()));
        // All of them are compared, whichever it is.
        let found = self.passwords.iter().fold(Choice::from(0), |found, (known, expected)| {
            found | (known.ct_eq(&name) & expected.ct_eq(&password))
        });
        found.into()
    }

    /// What is answered to who may not ask.
    pub(super) fn refusal(&self, access: Access) -> Response {
        let text = if access == Access::Local {
            "this is for who gives a token or password, or asks from the machine itself\n"
        } else {
            "this is for who gives a token or password\n"
        };
        let mut response = (StatusCode::UNAUTHORIZED, text).into_response();
        let scheme = match (self.token.is_some(), self.passwords.is_empty()) {
            (true, _) => "Bearer realm=\"leakwatch\"",
            (false, false) => "Basic realm=\"leakwatch\", charset=\"UTF-8\"",
            (false, true) => return (StatusCode::FORBIDDEN, text).into_response(),
        };
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(scheme));
        response
    }
}

fn hash(bytes: &[u8]) -> Hash {
    Sha256::digest(bytes).into()
}

fn place(path: &Path) -> String {
    format!("{} is not what it must be", path.display())
}

fn token(text: &str) -> anyhow::Result<Hash> {
    match text.strip_prefix("sha256:") {
        Some(hex) => from_hex(hex).context("`sha256:` is followed by 64 hexadecimal digits"),
        None if text.len() < 16 => {
            bail!("a token has 16 characters at least; `openssl rand -hex 32` makes one")
        }
        None => Ok(hash(text.as_bytes())),
    }
}

/// `name:sha256:HASH`
fn user(line: &str) -> anyhow::Result<(Hash, Hash)> {
    let (name, hex) = line.split_once(":sha256:").context("a line is `name:sha256:HASH`")?;
    let password = from_hex(hex).context("`sha256:` is followed by 64 hexadecimal digits")?;
    Ok((hash(name.as_bytes()), password))
}

fn from_hex(text: &str) -> Option<Hash> {
    let mut bytes = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(bytes)
}

/// Base64 as RFC 4648 has it, with its padding.
fn decode(text: &[u8]) -> Option<Vec<u8>> {
    let value = |byte: u8| {
        Some(match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        })
    };
    if text.is_empty() || !text.len().is_multiple_of(4) {
        return None;
    }
    let bare = text.strip_suffix(b"==").or_else(|| text.strip_suffix(b"=")).unwrap_or(text);
    let mut decoded = Vec::with_capacity(bare.len());
    for group in bare.chunks(4) {
        let mut word = 0u32;
        for &byte in group {
            word = word << 6 | u32::from(value(byte)?);
        }
        let missing = 4 - group.len();
        word <<= 6 * missing;
        let [_, bytes @ ..] = word.to_be_bytes();
        decoded.extend_from_slice(bytes.get(..3 - missing)?);
    }
    Some(decoded)
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use super::*;

    fn file(dir: &tempfile::TempDir, name: &str, text: &str, mode: u32) -> std::path::PathBuf {
        let path = dir.path().join(name);
        fs::write(&path, text).expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("set");
        path
    }

    fn allows(secrets: &Secrets, header: &str) -> bool {
        secrets.allow(Some(&HeaderValue::from_str(header).expect("a header")))
    }

    #[test]
    fn a_token_in_plain_or_as_its_hash() {
        let dir = tempfile::tempdir().expect("a directory");
        // printf %s 0123456789abcdef | sha256sum
        let hex = "sha256:9f9f5111f7b27a781f1f1ddde5ebc2dd2b796bfc7365c9c28b548e564176929f\n";
        for text in ["0123456789abcdef\n", hex] {
            let path = file(&dir, "token", text, 0o600);
            let secrets =
                Secrets::read(&Http { bearer_token_file: Some(path), ..Http::default() }).expect("read");
            assert!(
                allows(&secrets, "Bearer 0123456789abcdef") && allows(&secrets, "bearer  0123456789abcdef ")
            );
            for wrong in
                ["Bearer 0123456789abcdeF", "Bearer ", "Bearer", "Basic 0123456789abcdef", "0123456789abcdef"]
            {
                assert!(!allows(&secrets, wrong), "{wrong}");
            }
            assert!(!secrets.allow(None));
            assert_eq!(secrets.refusal(Access::Auth).status(), StatusCode::UNAUTHORIZED);
            assert!(!format!("{secrets:?}").contains("9f"));
        }
    }

    #[test]
    fn users_by_the_hashes_of_their_passwords() {
        let dir = tempfile::tempdir().expect("a directory");
        let line = |name: &str, password: &str| {
            let hex: Vec<String> =
                hash(password.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
            format!("{name}:sha256:{}\n", hex.concat())
        };
        let users = format!("# who\n{}\n{}", line("ops", "secret"), line("dev", "pass:word"));
        let path = file(&dir, "users", &users, 0o640);
        let secrets = Secrets::read(&Http { basic_users_file: Some(path), ..Http::default() }).expect("read");
        assert!(allows(&secrets, "Basic b3BzOnNlY3JldA=="), "ops:secret");
        assert!(allows(&secrets, "Basic ZGV2OnBhc3M6d29yZA=="), "dev:pass:word");
        for wrong in [
            "Basic ZGV2OnNlY3JldA==", // dev:secret
            "Basic b3BzOnNlY3Jl",     // ops:secre
            "Basic b3Bz",             // no colon
            "Basic !!!!",
            "Basic =",
            "Bearer b3BzOnNlY3JldA==",
        ] {
            assert!(!allows(&secrets, wrong), "{wrong}");
        }
        assert!(!allows(&Secrets::default(), "Basic b3BzOnNlY3JldA=="));
        assert_eq!(Secrets::default().refusal(Access::Local).status(), StatusCode::FORBIDDEN);
    }

    #[test]
    fn files_that_others_may_read_and_weak_ones_are_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        let check = |text: &str, mode: u32, expect: &str| {
            let path = file(&dir, "token", text, mode);
            let error = Secrets::read(&Http { bearer_token_file: Some(path), ..Http::default() });
            let error = format!("{:#}", error.expect_err("refused"));
            assert!(error.contains(expect), "{error}");
        };
        check("0123456789abcdef", 0o644, "others may read it");
        check("short", 0o600, "16 characters");
        check("sha256:zz", 0o600, "64 hexadecimal digits");
        let absent = Http { bearer_token_file: Some(dir.path().join("absent")), ..Http::default() };
        assert!(Secrets::read(&absent).is_err());
        let path = file(&dir, "users", "ops:secret\n", 0o600);
        let error =
            Secrets::read(&Http { basic_users_file: Some(path), ..Http::default() }).expect_err("refused");
        assert!(format!("{error:#}").contains("users:1"), "{error:#}");
    }

    #[test]
    fn base64() {
        for (text, bytes) in
            [("Zg==", "f"), ("Zm8=", "fo"), ("Zm9v", "foo"), ("Zm9vYg==", "foob"), ("+/+/", "")]
        {
            let decoded = decode(text.as_bytes()).expect("right");
            assert!(bytes.is_empty() || decoded == bytes.as_bytes(), "{text}");
        }
        for odd in ["", "Z", "Zg", "Zg=", "Zg===", "Z=g=", "Zm9v\n"] {
            assert_eq!(decode(odd.as_bytes()), None, "{odd:?}");
        }
    }
}

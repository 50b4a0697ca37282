//! `--start`, `--end` and `--profile`: a runtime named on the command line.

use std::{fs::File, io::Read as _, path::Path};

use super::{
    ConfigError,
    error::unknown,
    profile::{self, FUNCTION_KEYS, default_function},
    shipped::shipped,
    words,
};
use crate::{
    collect::custom::{FileNames, Means, Named, NamedFunction},
    images::Wanted,
};

/// Most bytes of a profile.
const MOST_BYTES: u64 = 1 << 20;

/// What a function flag was called, and what was given to it.
#[derive(Clone, Copy, Debug)]
pub struct FunctionFlag<'a> {
    /// `--start` or `--end`.
    pub flag: &'a str,
    /// What passing the function means.
    pub means: Means,
    /// `SYMBOL[:key=value]…`.
    pub text: &'a str,
}

/// The runtimes that flags name: each profile is one, and so are functions that start and end tasks. Functions that do
/// only one of these add to the only profile.
///
/// # Errors
/// The flag, or the file and line, and what is wrong there.
pub fn named(profiles: &[String], functions: &[FunctionFlag<'_>]) -> Result<Vec<Named>, ConfigError> {
    let mut runtimes: Vec<Named> =
        profiles.iter().map(|text| read_profile(text)).collect::<Result<_, _>>()?;
    if functions.is_empty() {
        return Ok(runtimes);
    }
    let functions: Vec<NamedFunction> =
        functions.iter().map(|flag| function(*flag)).collect::<Result<_, _>>()?;
    let missing = [(Means::Start, "--start"), (Means::End, "--end")]
        .into_iter()
        .find(|(means, _)| functions.iter().all(|function| function.means != *means));
    match (missing, runtimes.as_mut_slice()) {
        (None, _) => {
            runtimes.push(Named {
                name: "custom".to_owned(),
                version: None,
                functions,
                requires: Vec::new(),
            });
        }
        (Some(_), [profile]) => profile.functions.extend(functions),
        (Some((means, flag)), _) => {
            return Err(ConfigError::new(
                flag,
                format!(
                    "it is missing: name a function that {means}s a task, such as {flag} 'pool_get:task=ret'"
                ),
            ));
        }
    }
    Ok(runtimes)
}

/// Whether a profile's text is right. `file` is what messages call it.
///
/// # Errors
/// The line, what is wrong there, and what is allowed.
pub fn check_profile(file: &str, text: &str) -> Result<(), ConfigError> {
    profile::parse(file, text).map(drop)
}

/// A shipped profile by its name, or a file.
fn read_profile(text: &str) -> Result<Named, ConfigError> {
    if let Some(shipped) = shipped().iter().find(|profile| profile.name == text) {
        return shipped.named();
    }
    let place = format!("--profile {text}");
    if !text.contains('/') && Path::new(text).extension().is_none_or(|extension| extension != "toml") {
        let names: Vec<&str> = shipped().iter().map(|profile| profile.name).collect();
        return Err(ConfigError::new(
            place,
            format!("{}; for a file write its path, with / or .toml", unknown("profile", text, &names)),
        ));
    }
    let failed = |error: std::io::Error| ConfigError::new(place.clone(), format!("cannot read it: {error}"));
    let mut content = String::new();
    // One byte more than is taken: then it is too long.
    File::open(text)
        .and_then(|file| file.take(MOST_BYTES + 1).read_to_string(&mut content))
        .map_err(failed)?;
    if content.len() > usize::try_from(MOST_BYTES).unwrap_or(usize::MAX) {
        return Err(ConfigError::new(
            place,
            format!("it has more than {MOST_BYTES} bytes; no profile is as long"),
        ));
    }
    profile::parse(text, &content).map(|profile| profile.named)
}

/// Reads `SYMBOL[:key=value]…`. A symbol may have colons in it: `Pool::get:task=ret`.
fn function(FunctionFlag { flag, means, text }: FunctionFlag<'_>) -> Result<NamedFunction, ConfigError> {
    let place = format!("{flag} '{text}'");
    let error = |what: String| ConfigError::new(place.clone(), what);
    let (symbol, settings) = split(text);
    if symbol.is_empty() {
        return Err(error(format!(
            "no function: write SYMBOL[:task=…][:site=…], such as {flag} 'pool_get:task=ret'"
        )));
    }
    let wanted = match (symbol.strip_prefix("re:"), symbol.strip_prefix("0x")) {
        (Some(pattern), _) => Wanted::Pattern(profile::pattern(pattern).map_err(error)?),
        (None, Some(hex)) => Wanted::Address(u64::from_str_radix(hex, 16).map_err(|_no_number| {
            error(format!("`{symbol}` is no address: write hexadecimal digits after 0x"))
        })?),
        (None, None) => Wanted::Name(symbol.to_owned()),
    };
    let mut function = default_function(means, wanted, symbol.to_owned(), place.clone());
    for (key, value) in settings {
        match key {
            "task" => function.task = words::task(value).map_err(error)?,
            "site" => function.site = words::fact(value).map_err(error)?,
            "entry" => function.entry = words::fact(value).map_err(error)?,
            "library" => function.library = Some(FileNames(value.to_owned())),
            "versions" => function.versions = Some(words::versions(value).map_err(error)?),
            "invalid" => {
                function.invalid = crate::collect::custom::Invalid::default();
                for one in value.split(',') {
                    words::invalid(one, &mut function.invalid).map_err(error)?;
                }
            }
            "bits" => {
                let bits =
                    value.parse().map_err(|_no_number| error(format!("bits={value}: bits is 32 or 64")))?;
                function.half = words::is_half(bits).map_err(error)?;
            }
            "optional" | "return_probe" => {
                let on = match value {
                    "true" => true,
                    "false" => false,
                    _ => return Err(error(format!("{key}={value}: it is true or false"))),
                };
                if key == "optional" {
                    function.optional = on;
                } else {
                    function.return_probe = on;
                }
            }
            _ => return Err(error(unknown("key", key, &FUNCTION_KEYS[3..]))),
        }
    }
    if matches!(function.wanted, Wanted::Address(_)) && function.library.is_none() {
        return Err(error("an address needs library=NAME: it means another place in each file".to_owned()));
    }
    Ok(function)
}

/// The symbol, and its settings: what follows a single colon and looks like `key=value`.
fn split(text: &str) -> (&str, Vec<(&str, &str)>) {
    let mut starts: Vec<(usize, usize)> = Vec::new();
    for (at, _) in text.match_indices(':') {
        let alone = !text.get(..at).unwrap_or_default().ends_with(':');
        let rest = text.get(at + 1..).unwrap_or_default();
        let Some(equals) = rest.find('=') else { continue };
        let key = rest.get(..equals).unwrap_or_default();
        if alone && !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_') {
            starts.push((at, equals));
        }
    }
    let ends = starts.iter().skip(1).map(|(at, _)| *at).chain([text.len()]);
    let settings = starts.iter().zip(ends).filter_map(|((at, equals), end)| {
        let key = text.get(at + 1..at + 1 + equals)?;
        Some((key, text.get(at + 2 + equals..end)?))
    });
    let symbol = text.get(..starts.first().map_or(text.len(), |(at, _)| *at)).unwrap_or_default();
    (symbol, settings.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collect::custom::{Base, FactAt};

    fn start(text: &str) -> Result<NamedFunction, ConfigError> {
        function(FunctionFlag { flag: "--start", means: Means::Start, text })
    }

    #[test]
    fn symbols_with_and_without_settings() {
        assert!(matches!(start("pool_get").expect("plain").wanted, Wanted::Name(name) if name == "pool_get"));
        let method = start("ns::Pool<int>::get:task=ret:site=arg2:invalid=0,-1:bits=32").expect("a method");
        assert_eq!(method.written, "ns::Pool<int>::get");
        assert_eq!((method.task.base, method.site), (Base::Return, FactAt::Argument(2)));
        assert!(method.invalid.minus_one && method.half);
        assert_eq!(start("Foo::operator==:task=arg2").expect("an operator").written, "Foo::operator==");
        assert!(matches!(start("re:^uv_.*work$:task=arg2").expect("a pattern").wanted, Wanted::Pattern(_)));
        assert!(matches!(
            start("0x1234:library=libx.so").expect("an address").wanted,
            Wanted::Address(0x1234)
        ));
    }

    #[test]
    fn errors_name_the_flag() {
        let said = |text: &str| start(text).expect_err(text).to_string();
        assert!(
            said("pool_get:task=rax").starts_with("--start 'pool_get:task=rax': `rax` is no place of a task")
        );
        assert!(
            said("pool_get:tsk=ret").contains("unknown key `tsk` (did you mean `task`?)"),
            "{}",
            said("pool_get:tsk=ret")
        );
        assert!(said("").contains("no function") && said(":task=ret").contains("no function"));
        assert!(said("0x1234").contains("needs library") && said("0xzz:library=x").contains("no address"));
        assert!(said("re:(").contains("is no pattern") && said("f:bits=x").contains("32 or 64"));
    }

    #[test]
    fn both_ends_are_needed() {
        let flag = FunctionFlag { flag: "--start", means: Means::Start, text: "pool_get" };
        assert!(named(&[], &[flag]).expect_err("no end").to_string().starts_with("--end: it is missing"));
        assert!(named(&[], &[]).expect("nothing").is_empty());
        let error = named(&["asyncoi".to_owned()], &[]).expect_err("a typo").to_string();
        assert!(error.contains("did you mean `asyncio`?"), "{error}");
        let error = named(&["/no/such.toml".to_owned()], &[]).expect_err("no file").to_string();
        assert!(error.contains("cannot read it"), "{error}");
        let one = named(&["pthread".to_owned()], &[flag]).expect("more starts of the profile's");
        assert!(one.len() == 1 && one[0].functions.iter().any(|function| function.written == "pool_get"));
        let both = ["pthread".to_owned(), "asyncio".to_owned()];
        assert!(
            named(&both, &[flag]).expect_err("of which?").to_string().starts_with("--end: it is missing")
        );
        let end = FunctionFlag { flag: "--end", means: Means::End, text: "pool_put" };
        let names: Vec<String> =
            named(&both, &[flag, end]).expect("three").into_iter().map(|named| named.name).collect();
        assert_eq!(names, ["pthread", "asyncio", "custom"]);
    }
}

//! Regular expressions that users give.

use regex::RegexSet;

use super::ConfigError;

/// All of them as one set.
///
/// # Errors
/// Of the first that is none: what is wrong in it.
pub fn patterns(flag: &str, texts: &[String]) -> Result<RegexSet, ConfigError> {
    for text in texts {
        if let Err(error) = regex::Regex::new(text) {
            // The last line says what is wrong; those before it draw where.
            let why = error.to_string();
            let why = why.lines().last().unwrap_or("it is no regular expression").trim().to_owned();
            return Err(ConfigError::new(format!("{flag} `{text}`"), why));
        }
    }
    RegexSet::new(texts).map_err(|error| ConfigError::new(flag, error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_one_is_named() {
        let set = patterns("--ignore", &["^a".to_owned(), "b$".to_owned()]).expect("both are right");
        assert!(set.is_match("ax") && set.is_match("xb") && !set.is_match("xx"));
        let error = patterns("--ignore", &["a".to_owned(), "(".to_owned()]).expect_err("no end");
        assert!(
            error.to_string().starts_with("--ignore `(`: ") && !error.to_string().contains('\n'),
            "{error}"
        );
    }
}

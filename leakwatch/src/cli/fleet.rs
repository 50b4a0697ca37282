//! What `leakwatch fleet` is asked.

use std::path::PathBuf;

use clap::Args;
use jiff::SignedDuration;

use super::{TextOrJson, parse_time};

/// `leakwatch fleet`.
#[derive(Clone, Debug, Args)]
pub struct FleetArgs {
    /// The Prometheus that scrapes the agents, or takes what they send; or what answers as it does, such as Thanos or Mimir.
    #[arg(long, value_name = "URL")]
    pub prometheus: String,
    /// How to print.
    #[arg(short, long, value_enum, default_value_t = TextOrJson::Text)]
    pub format: TextOrJson,
    /// Sites to list.
    #[arg(short = 'n', long, value_name = "N", default_value_t = 20)]
    pub sites: usize,
    /// Look this far back for versions, and for what was suspect in them.
    #[arg(long, value_name = "TIME", default_value = "7d", value_parser = parse_past)]
    pub since: SignedDuration,
    /// Only series with these labels, as Prometheus writes them: 'cluster="eu", namespace=~"shop.*"'.
    #[arg(long = "match", value_name = "MATCHERS", default_value = "")]
    pub matching: String,
    /// A file with the token that Prometheus wants.
    #[arg(long, value_name = "FILE")]
    pub bearer_token_file: Option<PathBuf>,
    /// One question may take this long.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = parse_time)]
    pub timeout: SignedDuration,
    /// Write there instead of to standard output.
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// A time of the past; in days, too.
fn parse_past(text: &str) -> Result<SignedDuration, String> {
    let days = text.strip_suffix('d').and_then(|days| days.parse::<i32>().ok());
    let past = match days {
        Some(days) => SignedDuration::from_hours(24 * i64::from(days)),
        None => parse_time(text)?,
    };
    if past < SignedDuration::from_secs(1) {
        return Err("expected at least a second, such as 90m, 12h or 7d".to_owned());
    }
    Ok(past)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_past_is_days_or_less() {
        assert_eq!(parse_past("7d"), Ok(SignedDuration::from_hours(168)));
        assert_eq!(parse_past("90m"), Ok(SignedDuration::from_mins(90)));
        assert!(parse_past("0d").is_err() && parse_past("-1d").is_err() && parse_past("d").is_err());
        assert!(parse_past("10ms").is_err());
    }
}

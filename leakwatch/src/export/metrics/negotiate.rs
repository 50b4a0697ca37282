//! Which form a scraper gets, by what it says it takes.

/// A form of `/metrics`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Exposition {
    /// Prometheus's text, 0.0.4.
    #[default]
    Text,
    /// `OpenMetrics` 1.0.
    OpenMetrics,
    /// Prometheus's protocol buffers, one message after the other: the form with native histograms.
    Protobuf,
}

impl Exposition {
    /// The value of `Content-Type`.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Protobuf => {
                "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
            }
        }
    }

    /// What a media range of `Accept` asks for; `None`: nothing that there is.
    fn of_range(range: &str, parameters: &[(String, String)]) -> Option<Self> {
        let said =
            |name: &str| parameters.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str());
        match range {
            "application/openmetrics-text" => {
                // 0.0.1 is what Prometheus 2 asks for beside 1.0.0.
                said("version").is_none_or(|version| version == "1.0.0").then_some(Self::OpenMetrics)
            }
            "application/vnd.google.protobuf" => {
                let whole = said("proto").is_some_and(|proto| proto == "io.prometheus.client.MetricFamily")
                    && said("encoding").is_some_and(|encoding| encoding == "delimited");
                whole.then_some(Self::Protobuf)
            }
            "text/plain" => said("version").is_none_or(|version| version == "0.0.4").then_some(Self::Text),
            "text/*" | "*/*" => Some(Self::Text),
            _ => None,
        }
    }
}

/// Longest header that is looked at, in bytes.
const LONGEST: usize = 4_096;

/// The form for a request whose `Accept` header is this: the one with the greatest `q`, of several the first. Whoever
/// asks for nothing that there is gets the text.
pub fn negotiate(accept: Option<&str>) -> Exposition {
    let mut best: Option<(f32, Exposition)> = None;
    for range in accept.filter(|accept| accept.len() <= LONGEST).unwrap_or_default().split(',') {
        let mut parts = range.split(';').map(str::trim);
        let media = parts.next().unwrap_or_default().to_ascii_lowercase();
        let parameters: Vec<(String, String)> = parts
            .filter_map(|part| part.split_once('='))
            .map(|(name, value)| {
                (name.trim().to_ascii_lowercase(), value.trim().trim_matches('"').to_owned())
            })
            .collect();
        let quality = parameters.iter().find(|(name, _)| name == "q");
        let quality = quality.map_or(Some(1.0), |(_, value)| value.parse::<f32>().ok());
        let Some(quality) = quality.filter(|quality| *quality > 0.0 && *quality <= 1.0) else { continue };
        if let Some(form) = Exposition::of_range(&media, &parameters)
            && best.is_none_or(|(other, _)| quality > other)
        {
            best = Some((quality, form));
        }
    }
    best.map_or_else(Exposition::default, |(_, form)| form)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scrapers_get_what_they_prefer() {
        let cases = [
            (None, Exposition::Text),
            (Some(""), Exposition::Text),
            (Some("*/*"), Exposition::Text),
            (Some("text/html,application/xhtml+xml;q=0.9,*/*;q=0.8"), Exposition::Text),
            // Prometheus 2.42.
            (
                Some(
                    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
                     text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
                ),
                Exposition::OpenMetrics,
            ),
            // Prometheus 2.42 with native histograms.
            (
                Some(
                    "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited,\
                     application/openmetrics-text;version=1.0.0;q=0.8,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
                ),
                Exposition::Protobuf,
            ),
            (Some("application/vnd.google.protobuf;proto=other;encoding=delimited"), Exposition::Text),
            (Some("application/openmetrics-text;q=0, text/plain;q=0.1"), Exposition::Text),
            (Some("application/openmetrics-text;q=x"), Exposition::Text),
        ];
        for (accept, form) in cases {
            assert_eq!(negotiate(accept), form, "{accept:?}");
        }
    }
}

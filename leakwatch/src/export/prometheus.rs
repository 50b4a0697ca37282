//! What a Prometheus answers: instant vectors. <https://prometheus.io/docs/prometheus/latest/querying/api/>

use std::collections::BTreeMap;

use serde::Deserialize;

/// One sample of an instant vector.
#[derive(Clone, Debug, PartialEq)]
pub struct VectorSample {
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// The time that was asked about, seconds since 1970.
    pub at_s: f64,
    /// The value.
    pub value: f64,
}

/// Why there is no vector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoVector {
    /// Prometheus says this against the query.
    Refused(String),
    /// This is no answer of a Prometheus.
    Strange(String),
}

#[derive(Deserialize)]
struct Answer {
    status: String,
    #[serde(default)]
    error: String,
    data: Option<Data>,
}

#[derive(Deserialize)]
struct Data {
    result: Vec<One>,
}

#[derive(Deserialize)]
struct One {
    metric: BTreeMap<String, String>,
    value: (f64, String),
}

/// Reads the answer to `/api/v1/query`.
///
/// # Errors
/// When it has none.
pub fn read_vector(bytes: &[u8]) -> Result<Vec<VectorSample>, NoVector> {
    let answer: Answer =
        serde_json::from_slice(bytes).map_err(|error| NoVector::Strange(error.to_string()))?;
    let data = match answer {
        Answer { status, data: Some(data), .. } if status == "success" => data,
        Answer { error, .. } if !error.is_empty() => return Err(NoVector::Refused(error)),
        Answer { .. } => return Err(NoVector::Strange("it has no data".to_owned())),
    };
    data.result
        .into_iter()
        .map(|One { metric, value: (at_s, value) }| {
            let value =
                value.parse().map_err(|_no_number| NoVector::Strange(format!("{value:?} is no value")))?;
            Ok(VectorSample { labels: metric, at_s, value })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers() {
        let fine = br#"{"status":"success","data":{"resultType":"vector","result":[
            {"metric":{"exe":"/bin/a"},"value":[1763769600.5,"2"]},{"metric":{},"value":[1763769600.5,"NaN"]}]}}"#;
        let [two, nan] = &read_vector(fine).expect("a vector")[..] else { panic!("two samples") };
        assert_eq!((two.labels["exe"].as_str(), two.at_s, two.value), ("/bin/a", 1_763_769_600.5, 2.0));
        assert!(nan.value.is_nan());
        let refused = br#"{"status":"error","errorType":"bad_data","error":"parse error"}"#;
        assert_eq!(read_vector(refused), Err(NoVector::Refused("parse error".to_owned())));
        for text in [
            r#"{"status":"success"}"#,
            "<html>",
            r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[1,"x"]}]}}"#,
            r#"{"status":"success","data":{"resultType":"scalar","result":[1,"2"]}}"#,
        ] {
            assert!(matches!(read_vector(text.as_bytes()), Err(NoVector::Strange(_))), "{text}");
        }
    }
}

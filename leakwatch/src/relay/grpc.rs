//! What a status of gRPC means for what was sent. It must never take a detail that it does not know for one that it does.

use std::time::Duration;

use prost::Message;
use tonic::Code;

use crate::http;

/// Codes after which a client may try again
/// (<https://opentelemetry.io/docs/specs/otlp/#failures>), and those that settings cause.
pub(super) const fn is_passing(code: Code) -> bool {
    matches!(
        code,
        Code::Cancelled
            | Code::DeadlineExceeded
            | Code::Aborted
            | Code::OutOfRange
            | Code::Unavailable
            | Code::DataLoss
            | Code::ResourceExhausted
            | Code::Unauthenticated
            | Code::PermissionDenied
            | Code::Unimplemented
    )
}

/// What a detail about when to try again is called
/// (<https://github.com/googleapis/googleapis/blob/master/google/rpc/error_details.proto>).
const RETRY_INFO: &str = "type.googleapis.com/google.rpc.RetryInfo";

// What is looked at of `google.rpc.Status`, `google.protobuf.Any`, `google.rpc.RetryInfo` and `google.protobuf.Duration`.
#[derive(Clone, PartialEq, Message)]
struct Details {
    #[prost(message, repeated, tag = "3")]
    details: Vec<Detail>,
}

#[derive(Clone, PartialEq, Message)]
struct Detail {
    #[prost(string, tag = "1")]
    kind: String,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct RetryInfo {
    #[prost(message, optional, tag = "1")]
    delay: Option<Delay>,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct Delay {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

/// How long a receiver wants to be left alone, by the details of its status, within the bounds of [`http::wait_of`].
pub(super) fn retry_delay(details: &[u8]) -> Option<Duration> {
    let details = Details::decode(details).ok()?.details;
    let info = details.iter().find(|detail| detail.kind == RETRY_INFO)?;
    let Delay { seconds, nanos } = RetryInfo::decode(info.value.as_slice()).ok()?.delay?;
    let whole = Duration::from_secs(u64::try_from(seconds).ok()?);
    http::wait_of(whole.saturating_add(Duration::from_nanos(u64::try_from(nanos).ok()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn details(kind: &str, seconds: i64, nanos: i32) -> Vec<u8> {
        let value = RetryInfo { delay: Some(Delay { seconds, nanos }) }.encode_to_vec();
        let other = Detail { kind: "type.googleapis.com/google.rpc.DebugInfo".to_owned(), value: vec![1] };
        let this = Detail { kind: kind.to_owned(), value };
        Details { details: vec![other, this] }.encode_to_vec()
    }

    #[test]
    fn receivers_say_when_to_come_again() {
        let of = |seconds, nanos| retry_delay(&details(RETRY_INFO, seconds, nanos));
        assert_eq!(of(2, 500_000_000), Some(Duration::from_millis(2_500)));
        assert_eq!(of(i64::MAX, i32::MAX), Some(Duration::from_mins(5)));
        assert_eq!((of(0, 0), of(-1, 0), of(1, -1)), (None, None, None));
        assert_eq!(retry_delay(&details("type.googleapis.com/google.rpc.QuotaFailure", 2, 0)), None);
        for bytes in [&[][..], b"\x1a\x05x", b"nothing of the kind"] {
            assert_eq!(retry_delay(bytes), None, "{bytes:?}");
        }
    }
}

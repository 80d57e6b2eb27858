//! How long a caller waits, as it says in the `grpc-timeout` header.

use std::time::Duration;

use tokio::time::Instant;
use tonic::metadata::MetadataMap;

/// How long a call may wait for work that goes on behind it when the caller set no deadline.
const WAIT_WITHOUT_DEADLINE: Duration = Duration::from_secs(10);

/// What is kept of the caller's time for the answer itself, at most.
const ANSWER_RESERVE_MAX: Duration = Duration::from_secs(2);

/// When to stop waiting so that the answer still reaches the caller.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadline(Instant);

impl Deadline {
    /// From a request's headers; counted from now.
    pub(crate) fn of(metadata: &MetadataMap) -> Self {
        let timeout = metadata
            .get("grpc-timeout")
            .and_then(|value| value.to_str().ok())
            .and_then(parse);
        let wait = match timeout {
            Some(timeout) => timeout.saturating_sub(ANSWER_RESERVE_MAX.min(timeout / 4)),
            None => WAIT_WITHOUT_DEADLINE,
        };
        // 99,999,999 hours, the longest that can be written, would overflow the clock.
        let wait = wait.min(Duration::from_secs(86_400));
        Self(Instant::now() + wait)
    }

    /// What is left.
    pub(crate) fn left(self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }
}

/// `TimeoutValue TimeoutUnit`: up to eight digits and one letter (gRPC over HTTP/2).
fn parse(text: &str) -> Option<Duration> {
    let unit = text.chars().last()?;
    let digits = text.strip_suffix(unit)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let value: u64 = digits.parse().ok()?;
    match unit {
        'H' => Some(Duration::from_secs(value * 3600)),
        'M' => Some(Duration::from_secs(value * 60)),
        'S' => Some(Duration::from_secs(value)),
        'm' => Some(Duration::from_millis(value)),
        'u' => Some(Duration::from_micros(value)),
        'n' => Some(Duration::from_nanos(value)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_header() {
        assert_eq!(parse("15S"), Some(Duration::from_secs(15)));
        assert_eq!(parse("2M"), Some(Duration::from_secs(120)));
        assert_eq!(parse("250m"), Some(Duration::from_millis(250)));
        assert_eq!(parse("99999999H").unwrap().as_secs(), 99_999_999 * 3600);
        for bad in ["", "S", "15", "123456789S", "+5S", "5s", "5é"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    #[tokio::test]
    async fn leaves_time_for_the_answer() {
        let with = |value: &str| {
            let mut metadata = MetadataMap::new();
            metadata.insert("grpc-timeout", value.parse().unwrap());
            Deadline::of(&metadata).left()
        };
        assert!(with("15S") <= Duration::from_secs(13) && with("15S") > Duration::from_secs(12));
        assert!(with("1S") <= Duration::from_millis(750));
        assert!(with("99999999H") <= Duration::from_secs(86_400));
        assert!(Deadline::of(&MetadataMap::new()).left() <= WAIT_WITHOUT_DEADLINE);
    }
}

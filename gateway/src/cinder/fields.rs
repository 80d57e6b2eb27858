//! Values as requests write them, and as answers want them.

use std::collections::BTreeMap;

use jiff::Timestamp;
use prost_types::Timestamp as ProtoTimestamp;
use serde::{Deserialize, Deserializer, de::Error as _};
use serde_json::Value;

use super::{Fault, bad_input};

/// Longest name, description, key or value, in characters: Cinder's own limit.
pub(super) const TEXT_LEN_MAX: usize = 255;
/// Bytes in the unit of Cinder's sizes.
const GIB: u64 = 1 << 30;
/// The one availability zone: Cinder's default name for it.
pub(super) const ZONE: &str = "nova";

/// A truth value in all the ways in which clients write one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, utoipa::ToSchema)]
#[schema(value_type = bool)]
pub(super) struct Flag(pub(super) bool);

impl Flag {
    /// From the text of a query or a body.
    pub(super) fn parse(text: &str) -> Option<Self> {
        match text.to_ascii_lowercase().as_str() {
            "true" | "t" | "1" | "on" | "yes" | "y" => Some(Self(true)),
            "false" | "f" | "0" | "off" | "no" | "n" => Some(Self(false)),
            _ => None,
        }
    }
}

impl<'de> Deserialize<'de> for Flag {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        let flag = match &value {
            Value::Bool(flag) => Some(Self(*flag)),
            Value::String(text) => Self::parse(text),
            Value::Number(number) => Self::parse(&number.to_string()),
            _ => None,
        };
        flag.ok_or_else(|| D::Error::custom(format!("{value} is neither true nor false")))
    }
}

/// A size in GiB, as a number or as the text of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, utoipa::ToSchema)]
#[schema(value_type = u64)]
pub(super) struct Gib(u64);

impl Gib {
    /// In bytes.
    pub(super) fn bytes(self) -> u64 {
        self.0 * GIB
    }

    /// As many as `bytes` take.
    pub(super) fn of(bytes: u64) -> u64 {
        bytes.div_ceil(GIB)
    }
}

impl<'de> Deserialize<'de> for Gib {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        let size = match &value {
            Value::Number(number) => number.as_u64(),
            Value::String(text) => text.trim().parse().ok(),
            _ => None,
        };
        // What bytes count in a signed number is what devices can have.
        let most = i64::MAX.unsigned_abs() / GIB;
        match size {
            Some(size) if (1..=most).contains(&size) => Ok(Self(size)),
            _ => Err(D::Error::custom(format!(
                "{value} is no size: it has to be a whole number of GiB, greater than 0"
            ))),
        }
    }
}

/// A moment as Cinder writes it: UTC, without saying so.
pub(super) fn time(time: Option<ProtoTimestamp>) -> Option<String> {
    let time = time?;
    let time = Timestamp::new(time.seconds, time.nanos).ok()?;
    Some(time.strftime("%Y-%m-%dT%H:%M:%S.%6f").to_string())
}

/// A text that has to say something.
pub(super) fn check_text(field: &str, text: &str) -> Result<(), Fault> {
    if text.trim().is_empty() {
        return Err(bad_input(format!("{field} is empty")));
    }
    check_len(field, text)
}

/// A text that may say nothing.
pub(super) fn check_len(field: &str, text: &str) -> Result<(), Fault> {
    if text.chars().count() > TEXT_LEN_MAX {
        return Err(bad_input(format!(
            "{field} has more than {TEXT_LEN_MAX} characters"
        )));
    }
    Ok(())
}

/// The caller's own pairs.
pub(super) fn check_metadata(metadata: &BTreeMap<String, String>) -> Result<(), Fault> {
    for (key, value) in metadata {
        check_text("a key of metadata", key)?;
        check_len(&format!("metadata {key:?}"), value)?;
    }
    Ok(())
}

/// There is one availability zone.
pub(super) fn check_zone(zone: Option<&str>) -> Result<(), Fault> {
    match zone {
        None | Some("" | ZONE) => Ok(()),
        Some(other) => Err(bad_input(format!(
            "availability zone {other:?} is invalid: the only one is {ZONE}"
        ))),
    }
}

/// `null` and nothing are the same, and so is an empty text.
pub(super) fn given(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn truth_in_many_ways() {
        let of = |value: Value| serde_json::from_value::<Flag>(value).ok().map(|f| f.0);
        for yes in [
            json!(true),
            json!("True"),
            json!("1"),
            json!(1),
            json!("yes"),
        ] {
            assert_eq!(of(yes.clone()), Some(true), "{yes}");
        }
        for no in [json!(false), json!("False"), json!(0), json!("off")] {
            assert_eq!(of(no.clone()), Some(false), "{no}");
        }
        for bad in [
            json!("maybe"),
            json!(2),
            json!([]),
            json!({}),
            json!(""),
            json!(null),
        ] {
            assert_eq!(of(bad.clone()), None, "{bad}");
        }
    }

    #[test]
    fn sizes_are_whole_and_not_too_many() {
        let of = |value: Value| serde_json::from_value::<Gib>(value).ok().map(Gib::bytes);
        assert_eq!(of(json!(1)), Some(1 << 30));
        assert_eq!(of(json!("2")), Some(2 << 30));
        for bad in [
            json!(0),
            json!(-1),
            json!(1.5),
            json!("x"),
            json!(u64::MAX),
            json!(1_u64 << 33),
            json!(true),
        ] {
            assert_eq!(of(bad.clone()), None, "{bad}");
        }
        assert_eq!((Gib::of(0), Gib::of(1), Gib::of(1 << 30)), (0, 1, 1));
        assert_eq!(Gib::of(u64::MAX), 1 << 34);
    }

    #[test]
    fn moments_are_written_as_cinder_does() {
        let moment = ProtoTimestamp {
            seconds: 1_364_898_927,
            nanos: 123_456_000,
        };
        let text = time(Some(moment));
        assert_eq!(text.as_deref(), Some("2013-04-02T10:35:27.123456"));
        let never = ProtoTimestamp {
            seconds: i64::MAX,
            nanos: 0,
        };
        assert_eq!(time(Some(never)), None);
    }
}

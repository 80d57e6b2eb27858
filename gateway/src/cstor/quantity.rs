//! Sizes as Kubernetes writes them: `resource.Quantity`.

use serde_json::Value;

/// What a suffix stands for.
const SUFFIXES: [(&str, u128); 13] = [
    ("Ki", 1 << 10),
    ("Mi", 1 << 20),
    ("Gi", 1 << 30),
    ("Ti", 1 << 40),
    ("Pi", 1 << 50),
    ("Ei", 1 << 60),
    ("k", 1_000),
    ("M", 1_000_000),
    ("G", 1_000_000_000),
    ("T", 1_000_000_000_000),
    ("P", 1_000_000_000_000_000),
    ("E", 1_000_000_000_000_000_000),
    ("", 1),
];
/// Digits after the point that are looked at.
const FRACTION_DIGITS_MAX: usize = 9;

/// Bytes, rounded up; `None` for what is no size.
pub(super) fn bytes(quantity: &Value) -> Option<u64> {
    match quantity {
        Value::Number(number) => number.as_u64(),
        Value::String(text) => parse(text.trim()),
        _ => None,
    }
}

fn parse(text: &str) -> Option<u64> {
    let (number, factor) = SUFFIXES
        .iter()
        .find_map(|(suffix, factor)| Some((text.strip_suffix(suffix)?, *factor)))?;
    let (number, factor) = match number.split_once(['e', 'E']) {
        // An exponent takes the place of a suffix.
        Some((number, exponent)) if factor == 1 => {
            let exponent: u32 = exponent.parse().ok().filter(|e| *e <= 18)?;
            (number, 10_u128.pow(exponent))
        }
        Some(_) => return None,
        None => (number, factor),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let is_digits = |digits: &str| digits.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() && fraction.is_empty() || !is_digits(whole) || !is_digits(fraction) {
        return None;
    }
    let fraction = &fraction[..fraction.len().min(FRACTION_DIGITS_MAX)];
    let scale = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
    let digits = format!("{whole}{fraction}");
    let digits: u128 = digits.parse().ok()?;
    u64::try_from(digits.checked_mul(factor)?.div_ceil(scale)).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn sizes_as_kubernetes_writes_them() {
        for (text, expected) in [
            (json!("5Gi"), 5 << 30),
            (json!("1.5Gi"), 3 << 29),
            (json!("5G"), 5_000_000_000),
            (json!("100k"), 100_000),
            (json!("2e3"), 2000),
            (json!("1.0001"), 2),
            (json!("1E"), 1_000_000_000_000_000_000),
            (json!("1Ei"), 1 << 60),
            (json!("0"), 0),
            (json!(4096), 4096),
        ] {
            assert_eq!(bytes(&text), Some(expected), "{text}");
        }
        for bad in [
            json!(""),
            json!("Gi"),
            json!("-1"),
            json!("1 Gi"),
            json!("1Xi"),
            json!("1e3Gi"),
            json!("."),
            json!("1e99"),
            json!("99999999999E"),
            json!("1e"),
            json!(-1),
            json!(1.5),
            json!(null),
            json!({}),
            json!("١"),
        ] {
            assert_eq!(bytes(&bad), None, "{bad}");
        }
    }
}

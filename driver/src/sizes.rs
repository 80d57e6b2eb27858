//! Sizes in messages: the exact number, and one that can be read.

use std::fmt;

/// A number of bytes, shown as `10995116277760 bytes (10.0 TiB)`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bytes(pub(crate) u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
        let Self(bytes) = *self;
        write!(f, "{bytes} bytes")?;
        let mut tenths = u128::from(bytes) * 10;
        let mut unit = None;
        for name in UNITS {
            if tenths < 10_240 {
                break;
            }
            tenths /= 1024;
            unit = Some(name);
        }
        match unit {
            Some(unit) => write!(f, " ({}.{} {unit})", tenths / 10, tenths % 10),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_are_shown() {
        for (bytes, text) in [
            (300, "300 bytes"),
            (1536, "1536 bytes (1.5 KiB)"),
            (10 << 40, "10995116277760 bytes (10.0 TiB)"),
            (u64::MAX, "18446744073709551615 bytes (16383.9 PiB)"),
        ] {
            assert_eq!(Bytes(bytes).to_string(), text);
        }
    }
}

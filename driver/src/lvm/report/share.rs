//! Shares of a whole, as exactly as LVM tells them.

use std::fmt;

/// A share of a whole, in hundredths of a percent: LVM's two decimals, exactly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::lvm) struct Share(pub(in crate::lvm) u64);

impl Share {
    pub(in crate::lvm) const WHOLE: Share = Share(10_000);

    pub(in crate::lvm) const fn percent(percent: u64) -> Self {
        Share(percent * 100)
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
        let digits: String = fraction.chars().chain("00".chars()).take(2).collect();
        let whole: u64 = whole.parse().ok()?;
        Some(Share(
            whole.checked_mul(100)?.checked_add(digits.parse().ok()?)?,
        ))
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:02} %", self.0 / 100, self.0 % 100)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_exact() {
        for (text, share) in [("0.00", 0), ("100.00", 10000), ("10.9", 1090), ("7", 700)] {
            assert_eq!(Share::parse(text), Some(Share(share)), "{text}");
        }
        assert_eq!(Share::parse(""), None);
        assert_eq!(Share(1094).to_string(), "10.94 %");
    }
}

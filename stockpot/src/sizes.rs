//! Sizes as people write and read them.

/// Reads `8MiB`, `64K`, `1048576`; letters mean powers of 1024, as in LVM's tools.
///
/// # Errors
/// A text that says what is expected.
pub(crate) fn parse_size(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match text[digits.len()..].to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kib" => 10,
        "m" | "mib" => 20,
        "g" | "gib" => 30,
        "t" | "tib" => 40,
        _ => return Err("expected a number with KiB, MiB, GiB or TiB".to_owned()),
    };
    let number: u64 = digits
        .parse()
        .map_err(|_| "expected a whole number with KiB, MiB, GiB or TiB".to_owned())?;
    number
        .checked_mul(1 << shift)
        .ok_or_else(|| "that is too large".to_owned())
}

/// Below this a number without a unit is taken for a mistake: no volume is that small.
const BARE_LEAST: u64 = 1 << 20;

/// Reads the size of a volume: as [`parse_size`] does, but a small number has to have a unit.
///
/// # Errors
/// A text that says what is expected.
pub(crate) fn parse_volume_size(text: &str) -> Result<u64, String> {
    let size = parse_size(text)?;
    let is_bare = text.bytes().all(|b| b.is_ascii_digit());
    match is_bare && size < BARE_LEAST {
        true => Err(format!("{size} bytes? Say {size}MiB, {size}GiB or {size}B")),
        false => Ok(size),
    }
}

/// Reads `5%`, `0.1%`: more than 0 and at most 100, as millionths.
///
/// # Errors
/// A text that says what is expected.
pub(crate) fn parse_percent(text: &str) -> Result<u32, String> {
    let expected = || "expected a share from 0.0001% to 100%".to_owned();
    let number = text.strip_suffix('%').ok_or_else(expected)?;
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || part.len() > 4 || !digits(whole) || !digits(part) {
        return Err(expected());
    }
    let whole: u32 = whole.parse().map_err(|_| expected())?;
    let part: u32 = format!("{part:0<4}").parse().map_err(|_| expected())?;
    whole
        .checked_mul(10_000)
        .and_then(|whole| whole.checked_add(part))
        .filter(|share| (1..=1_000_000).contains(share))
        .ok_or_else(expected)
}

/// A number of things, in the plural where it is not 1: `1 pack`, `2 packs`.
#[must_use]
pub(crate) fn count(number: u64, thing: &str) -> String {
    match number {
        1 => format!("1 {thing}"),
        number => format!("{number} {thing}s"),
    }
}

/// A time as `--give-up-after` takes it: `7d`, `36h`, `90s`.
#[must_use]
pub(crate) fn human_duration(seconds: u64) -> String {
    let units = [(86_400, "d"), (3600, "h"), (60, "m")];
    let unit = units
        .into_iter()
        .find(|(unit, _)| seconds >= *unit && seconds.is_multiple_of(*unit));
    match unit {
        Some((unit, name)) => format!("{}{name}", seconds / unit),
        None => format!("{seconds}s"),
    }
}

/// A size with three figures: `1.50 GiB`.
#[must_use]
pub(crate) fn human_size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut unit = 0;
    let mut scaled = bytes;
    let mut rest = 0;
    while scaled >= 1024 && unit + 1 < UNITS.len() {
        rest = scaled % 1024;
        scaled /= 1024;
        unit += 1;
    }
    if unit == 0 {
        return format!("{bytes} B");
    }
    let hundredths = rest * 100 / 1024;
    if scaled >= 100 {
        format!("{scaled} {}", UNITS[unit])
    } else if scaled >= 10 {
        format!("{scaled}.{} {}", hundredths / 10, UNITS[unit])
    } else {
        format!("{scaled}.{hundredths:02} {}", UNITS[unit])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read() {
        assert_eq!(parse_size("64KiB"), Ok(65536));
        assert_eq!(parse_size("8m"), Ok(8 << 20));
        assert_eq!(parse_size("17"), Ok(17));
        for bad in ["", "MiB", "1.5G", "-1", "9999999999999T", "5 parsecs", "é"] {
            assert!(parse_size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_volume_of_a_few_bytes_is_a_mistake() {
        assert_eq!(
            parse_volume_size("300"),
            Err("300 bytes? Say 300MiB, 300GiB or 300B".to_owned())
        );
        for (text, size) in [("300B", 300), ("300MiB", 300 << 20), ("1048576", 1 << 20)] {
            assert_eq!(parse_volume_size(text), Ok(size), "{text}");
        }
    }

    #[test]
    fn shares_are_read() {
        assert_eq!(parse_percent("5%"), Ok(50_000));
        assert_eq!(parse_percent("0.1%"), Ok(1000));
        assert_eq!(parse_percent("100%"), Ok(1_000_000));
        for bad in [
            "5",
            "%",
            ".5%",
            "0%",
            "100.1%",
            "-1%",
            "1.00001%",
            "99999999999%",
            "1e1%",
        ] {
            assert!(parse_percent(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes_are_shown() {
        assert_eq!(human_size(0), "0 B");
        assert_eq!(human_size(1536), "1.50 KiB");
        assert_eq!(human_size(4 << 30), "4.00 GiB");
        assert_eq!(human_size(123 << 20), "123 MiB");
        for (seconds, text) in [(0, "0s"), (90, "90s"), (5400, "90m"), (7 * 86_400, "7d")] {
            assert_eq!(human_duration(seconds), text);
        }
    }
}

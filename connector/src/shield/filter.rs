//! Whether a filter of LVM's keeps it out of our devices, decided as LVM decides it (lvm.conf(5), `devices/filter`).
//!
//! For each name of a device the first pattern that matches counts. One accepted name is enough for LVM to look at the device;
//! it is left out only if a name is rejected and none is accepted. So a pattern in front that rejects our names does nothing
//! against a later one that accepts `/dev/sdb`, which is the same device.

use std::fmt;

use regex_lite::Regex;

/// By this name udev's rules let LVM know our devices.
pub(super) const PATTERN: &str = "r|^/dev/stockpot/|";

/// Why a filter does not keep LVM out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Hole {
    /// A pattern accepts a name that a device of ours may have.
    Accepts { pattern: String, name: String },
    /// No pattern rejects any name of a device of ours.
    Silent { name: String },
    /// A pattern that is none.
    Odd { pattern: String },
}

impl fmt::Display for Hole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accepts { pattern, name } => write!(
                f,
                "the pattern \"{pattern}\" of its global_filter accepts {name}, and LVM looks at a device of which it accepts any \
                 name, whatever it rejects before: by hand, accept only this host's own physical volumes, each by a name that \
                 no other disk gets (\"a|^/dev/disk/by-id/nvme-MODEL_SERIAL-part3$|\"), and reject the rest (\"r|.*|\" at the end); or \
                 accept nothing, and have \"{PATTERN}\""
            ),
            Self::Silent { name } => write!(
                f,
                "its global_filter rejects no name of {name}, so LVM looks at it: by hand, add \"{PATTERN}\""
            ),
            Self::Odd { pattern } => write!(
                f,
                "it cannot be told what \"{pattern}\" in its global_filter means (\"a|…|\" accepts, \"r|…|\" rejects): mend it by hand"
            ),
        }
    }
}

/// A pattern of the filter.
struct Rule<'a> {
    text: &'a str,
    accepts: bool,
    regex: Regex,
}

/// What lets LVM look at a device of ours in spite of this filter, or because of it; nothing if it does not.
pub(super) fn hole(patterns: &[String]) -> Option<Hole> {
    let mut rules = Vec::new();
    for text in patterns {
        match rule(text) {
            Some(rule) => rules.push(rule),
            None => {
                return Some(Hole::Odd {
                    pattern: text.clone(),
                });
            }
        }
    }
    devices().into_iter().find_map(|names| seen(&rules, &names))
}

fn seen(rules: &[Rule<'_>], names: &[String]) -> Option<Hole> {
    let mut is_rejected = false;
    for name in names {
        let Some(first) = rules.iter().find(|rule| rule.regex.is_match(name)) else {
            continue;
        };
        if first.accepts {
            return Some(Hole::Accepts {
                pattern: first.text.to_owned(),
                name: name.clone(),
            });
        }
        is_rejected = true;
    }
    let name = names.first().cloned().unwrap_or_default();
    (!is_rejected).then_some(Hole::Silent { name })
}

/// Devices that may be ours, each with all its names. Logical volumes are none of them: `scan_lvs` is for those. `sda` and `mpatha`
/// are taken to be there since the host was booted, so not ours.
fn devices() -> Vec<Vec<String>> {
    let letters = ('b'..='z').map(String::from);
    let letters = letters.chain(["aa", "ab", "ba"].map(String::from));
    let letters: Vec<_> = letters.collect();
    let number = "6001405bbae711c8c526e4b5642c652";
    let by_path = "ip-192.0.2.1:3260-iscsi-iqn.2026-01.dev.stockpot:node-1:v.vol-1-lun-0";
    let mut all = Vec::new();
    let mut device = |kernel: &str, links: &[String]| {
        let own = [format!("/dev/{kernel}"), format!("/dev/stockpot/{kernel}")];
        all.push(own.into_iter().chain(links.iter().cloned()).collect());
    };
    for letter in &letters {
        for (part, suffix) in [("", ""), ("1", "-part1"), ("3", "-part3")] {
            let links = [
                format!("/dev/disk/by-id/scsi-3{number}{suffix}"),
                format!("/dev/disk/by-id/wwn-0x{number}{suffix}"),
                format!("/dev/disk/by-path/{by_path}{suffix}"),
            ];
            device(&format!("sd{letter}{part}"), &links);
        }
    }
    for (at, letter) in letters.iter().enumerate() {
        for name in [format!("mpath{letter}"), format!("3{number}")] {
            let links = [
                format!("/dev/mapper/{name}"),
                format!("/dev/disk/by-id/dm-name-{name}"),
                format!("/dev/disk/by-id/dm-uuid-mpath-3{number}"),
            ];
            device(&format!("dm-{at}"), &links);
        }
        device(&format!("loop{at}"), &[]);
    }
    all
}

/// `a` or `r`, then an expression between two of any character, or between brackets.
fn rule(text: &str) -> Option<Rule<'_>> {
    let mut chars = text.chars();
    let accepts = match chars.next()? {
        'a' => true,
        'r' => false,
        _ => return None,
    };
    let end = match chars.next()? {
        '(' => ')',
        '[' => ']',
        '{' => '}',
        other => other,
    };
    let regex = Regex::new(&translated(chars.as_str().strip_suffix(end)?)).ok()?;
    Some(Rule {
        text,
        accepts,
        regex,
    })
}

/// LVM's expressions have fewer special characters, and a backslash takes the meaning of any of them.
fn translated(expression: &str) -> String {
    let mut out = String::new();
    let mut chars = expression.chars();
    let (mut is_set, mut is_first) = (false, false);
    while let Some(c) = chars.next() {
        let began = std::mem::take(&mut is_first);
        match c {
            '\\' => match chars.next() {
                Some('n') => out.push_str("\\n"),
                Some('r') => out.push_str("\\r"),
                Some('t') => out.push_str("\\t"),
                Some(plain) => literal(&mut out, plain),
                None => out.push_str("\\\\"),
            },
            '[' if !is_set => {
                (is_set, is_first) = (true, true);
                out.push(c);
            }
            ']' if is_set => {
                is_set = false;
                out.push(c);
            }
            '^' if is_set && began => out.push(c),
            '-' if is_set => out.push(c),
            _ if is_set => literal(&mut out, c),
            '{' | '}' => literal(&mut out, c),
            _ => out.push(c),
        }
    }
    out
}

fn literal(out: &mut String, c: char) {
    // These two have a meaning with a backslash only.
    if c.is_ascii_punctuation() && !"<>".contains(c) {
        out.push('\\');
    }
    out.push(c);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(patterns: &[&str]) -> Option<Hole> {
        let patterns: Vec<_> = patterns.iter().map(|&text| text.to_owned()).collect();
        hole(&patterns)
    }

    #[test]
    fn what_accepts_any_name_of_our_devices_lets_lvm_in() {
        for (patterns, accepting) in [
            (&["a|.*|"][..], "a|.*|"),
            // What is rejected before is another name of the same device.
            (&[PATTERN, "a|.*|"], "a|.*|"),
            (&[PATTERN, "r|^/dev/mapper/|", "a|sd|", "r|.*|"], "a|sd|"),
            (&["a|sda|", "r|.*|"], "a|sda|"),
            (&["a/^\\/dev\\/sd[b-d]$/", "r/.*/"], "a/^\\/dev\\/sd[b-d]$/"),
            (&[PATTERN, "a|^/dev/loop|", "r|.*|"], "a|^/dev/loop|"),
            (&["a{^/dev/mapper/mpath}", "r|.*|"], "a{^/dev/mapper/mpath}"),
            (
                &["a(^/dev/disk/by-(id|path)/)", "r|.*|"],
                "a(^/dev/disk/by-(id|path)/)",
            ),
            (&["r|/sd|", "a|^/dev/dm-[0-9]+$|"], "a|^/dev/dm-[0-9]+$|"),
        ] {
            let Some(Hole::Accepts { pattern, .. }) = of(patterns) else {
                panic!("{patterns:?}: {:?}", of(patterns));
            };
            assert_eq!(pattern, accepting, "{patterns:?}");
        }
    }

    #[test]
    fn what_rejects_a_name_and_accepts_none_keeps_lvm_out() {
        for patterns in [
            &[PATTERN][..],
            &[PATTERN, r"r|^/dev/mapper/.*stockpot\.[vsctw]\..*|"],
            &["r|.*|"],
            &["a|^/dev/sda[0-9]*$|", "r|.*|"],
            &["a|^/dev/nvme|", "a|^/dev/md/pv$|", PATTERN],
            &["a|^/dev/disk/by-id/ata-DISK{1}-part3$|", "r|.*|"],
            &["r|.*|", "a|.*|"],
        ] {
            assert_eq!(of(patterns), None, "{patterns:?}");
        }
    }

    #[test]
    fn what_says_nothing_or_makes_no_sense_is_named() {
        for silent in [&[][..], &["r|^/dev/sr0|"], &["a|^/dev/nvme|"]] {
            assert!(
                matches!(of(silent), Some(Hole::Silent { .. })),
                "{silent:?}"
            );
        }
        for odd in ["", "a", "x|.*|", "a|.*", "r|(|"] {
            let found = of(&[odd]);
            assert!(matches!(found, Some(Hole::Odd { .. })), "{odd}: {found:?}");
        }
    }
}

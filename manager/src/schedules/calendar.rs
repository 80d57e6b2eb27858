//! When a schedule is due.
//!
//! Two ways to say it: fields of cron, or a first time and how often after it. Both are read in a time zone, on the clock that hangs
//! on the wall there:
//!
//! | the clock there | a fixed time of day | every hour, every so many minutes |
//! | --- | --- | --- |
//! | jumps over the time | once, as soon as the clock has jumped, or later by as much as it jumped | goes on in even steps |
//! | shows the time twice | once, the first time | both times: these are different hours |
//!
//! What a month does not have is its last day where a first time says it (31 January and monthly: 28 February, 31 March), and is left out
//! where cron's fields say it; `L` is cron's word for the last day.

use std::str::FromStr as _;

use croner::Cron;
use jiff::{SignedDuration, Span, Timestamp, Zoned, civil::DateTime, tz::TimeZone};

use crate::profile::Occurrence;

/// Runs may not be closer than this.
const APART_AT_LEAST: SignedDuration = SignedDuration::from_mins(1);
/// How many runs are looked at to find out.
const LOOKED_AT: usize = 120;
/// A stretch that clocks may skip as a whole, where a country changes sides of the date line.
const SKIPPED_AT_MOST: SignedDuration = SignedDuration::from_hours(49);

/// The times of a schedule.
#[derive(Debug, Clone)]
pub(crate) struct Calendar {
    zone: TimeZone,
    times: Times,
}

#[derive(Debug, Clone)]
enum Times {
    Cron(Box<Cron>),
    From(Box<Zoned>, Occurrence),
}

/// A schedule's times in its own words.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Words<'a> {
    /// Fields of cron; empty: the other two say it.
    pub(crate) calendar: &'a str,
    /// The first time, ISO 8601.
    pub(crate) datetime: &'a str,
    /// How often after that.
    pub(crate) occurrence: Option<Occurrence>,
    /// IANA's name; empty: UTC.
    pub(crate) time_zone: &'a str,
}

impl Calendar {
    /// Reads the words.
    ///
    /// # Errors
    /// What is wrong with them, and how it should be.
    pub(crate) fn parse(words: Words<'_>) -> Result<Self, String> {
        let zone = match words.time_zone {
            "" => TimeZone::UTC,
            name => TimeZone::get(name).map_err(|_| {
                format!("there is no time zone {name:?}; name one such as Europe/Berlin")
            })?,
        };
        let times = match (words.calendar, words.datetime, words.occurrence) {
            ("", "", None) => {
                return Err(
                    "say when: a calendar such as \"30 2 * * *\", or a datetime with an occurrence"
                        .to_owned(),
                );
            }
            ("", "", Some(Occurrence::Once)) => {
                return Err("once needs a datetime: when?".to_owned());
            }
            ("", "", Some(often)) => cron(nickname(often))?,
            ("", first, often) => {
                let often = often.unwrap_or(Occurrence::Once);
                Times::From(Box::new(first_time(first, &zone)?), often)
            }
            (fields, "", None) => cron(fields)?,
            _ => return Err("say either a calendar, or a datetime with an occurrence".to_owned()),
        };
        Ok(Self { zone, times })
    }

    /// Refuses times that never come after `now`, and such as come too close together.
    ///
    /// # Errors
    /// Which of both.
    pub(crate) fn check(&self, now: Timestamp) -> Result<(), String> {
        let first = self.next_after(now);
        let mut last = first.ok_or_else(|| format!("it is never due after {now:.0}"))?;
        for _ in 0..LOOKED_AT {
            let Some(next) = self.next_after(last) else {
                break;
            };
            if next.duration_since(last) < APART_AT_LEAST {
                return Err(format!(
                    "it is due at {last:.0} and again at {next:.0}; a minute apart is the least"
                ));
            }
            last = next;
        }
        Ok(())
    }

    /// The first time it is due after a moment, if ever.
    pub(crate) fn next_after(&self, moment: Timestamp) -> Option<Timestamp> {
        match &self.times {
            Times::Cron(cron) => {
                let next = |from: Timestamp| {
                    let found = cron.find_next_occurrence(&from.to_zoned(self.zone.clone()), false);
                    found.ok().map(|at| at.timestamp())
                };
                // A day that the clock skips is searched in vain.
                next(moment).or_else(|| next(moment.checked_add(SKIPPED_AT_MOST).ok()?))
            }
            Times::From(first, often) => next_of(first, *often, moment),
        }
    }

    /// The last time it was due, after one moment and not after another. `None`: it was not.
    pub(crate) fn latest(&self, after: Timestamp, until: Timestamp) -> Option<Timestamp> {
        let due = |moment| self.next_after(moment).filter(|at| *at <= until);
        let mut found = due(after)?;
        // Found by halves: after years of absence there may be very many.
        let mut end = until;
        while let Some(next) = due(found) {
            let half = end.duration_since(next) / 2;
            let middle = next.checked_add(half).ok()?;
            match due(middle) {
                Some(later) => found = later,
                None => {
                    found = next;
                    end = middle;
                }
            }
        }
        Some(found)
    }
}

fn cron(fields: &str) -> Result<Times, String> {
    match Cron::from_str(fields) {
        Ok(cron) => Ok(Times::Cron(Box::new(cron))),
        Err(error) => Err(format!(
            "the calendar {fields:?} cannot be read: {error} Write minute, hour, day, month and day of the week, such as \"30 2 * * *\", or @daily"
        )),
    }
}

fn nickname(often: Occurrence) -> &'static str {
    match often {
        Occurrence::Hourly => "@hourly",
        Occurrence::Daily => "@daily",
        Occurrence::Weekly => "@weekly",
        Occurrence::Monthly => "@monthly",
        Occurrence::Yearly | Occurrence::Once => "@yearly",
    }
}

/// With an offset it is a moment, otherwise what the clock shows there.
fn first_time(text: &str, zone: &TimeZone) -> Result<Zoned, String> {
    if let Ok(moment) = text.parse::<Timestamp>() {
        return Ok(moment.to_zoned(zone.clone()));
    }
    let wrong = |_| format!("{text:?} is no ISO 8601 time such as 2026-01-31T02:30:00");
    let shown: DateTime = text.parse().map_err(wrong)?;
    shown.to_zoned(zone.clone()).map_err(wrong)
}

/// Each time is counted from the first, so that a short month does not shorten those after it.
fn next_of(first: &Zoned, often: Occurrence, moment: Timestamp) -> Option<Timestamp> {
    if moment < first.timestamp() {
        return Some(first.timestamp());
    }
    let gone_s = moment.duration_since(first.timestamp()).as_secs();
    let unit_s: i64 = match often {
        Occurrence::Once => return None,
        Occurrence::Hourly => 3600,
        Occurrence::Daily => 24 * 3600,
        Occurrence::Weekly => 7 * 24 * 3600,
        // The longest ones: the guess is never too far.
        Occurrence::Monthly => 31 * 24 * 3600,
        Occurrence::Yearly => 366 * 24 * 3600,
    };
    let mut number = (gone_s / unit_s - 1).max(0);
    loop {
        number += 1;
        let at = match often {
            Occurrence::Hourly => {
                let later = SignedDuration::from_hours(number);
                first.timestamp().checked_add(later).ok()?
            }
            _ => nth(first, often, number)?,
        };
        if at > moment {
            return Some(at);
        }
    }
}

fn nth(first: &Zoned, often: Occurrence, number: i64) -> Option<Timestamp> {
    let span = match often {
        Occurrence::Daily => Span::new().try_days(number),
        Occurrence::Weekly => Span::new().try_weeks(number),
        Occurrence::Monthly => Span::new().try_months(number),
        Occurrence::Yearly => Span::new().try_years(number),
        Occurrence::Once | Occurrence::Hourly => return None,
    };
    let shown = first.datetime().checked_add(span.ok()?).ok()?;
    let at = shown.to_zoned(first.time_zone().clone()).ok()?;
    Some(at.timestamp())
}

#[cfg(test)]
mod tests;

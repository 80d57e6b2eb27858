//! Days, weeks, months and years of UTC.

use jiff::{Timestamp, tz::TimeZone};

/// A stretch of the calendar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Period {
    /// From midnight to midnight.
    Day,
    /// From Monday to Sunday, as ISO 8601 has it.
    Week,
    /// Of the calendar.
    Month,
    /// Of the calendar.
    Year,
}

impl Period {
    /// The number of the stretch that a time lies in: equal for times of the same one, larger for later ones.
    pub(super) fn of(self, time: Timestamp) -> i64 {
        let date = time.to_zoned(TimeZone::UTC).date();
        let (year, month, day) = (
            i64::from(date.year()),
            i64::from(date.month()),
            i64::from(date.day()),
        );
        match self {
            Self::Day => (year * 12 + month) * 31 + day,
            Self::Week => {
                let week = date.iso_week_date();
                i64::from(week.year()) * 53 + i64::from(week.week())
            }
            Self::Month => year * 12 + month,
            Self::Year => year,
        }
    }
}

use proptest::prelude::*;

use super::*;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn calendar(fields: &str, zone: &str) -> Calendar {
    Calendar::parse(Words {
        calendar: fields,
        datetime: "",
        occurrence: None,
        time_zone: zone,
    })
    .unwrap()
}

fn from(first: &str, often: Occurrence, zone: &str) -> Calendar {
    Calendar::parse(Words {
        calendar: "",
        datetime: first,
        occurrence: Some(often),
        time_zone: zone,
    })
    .unwrap()
}

fn next(calendar: &Calendar, moment: &str, count: usize) -> Vec<String> {
    let mut moment = at(moment);
    let mut found = Vec::new();
    for _ in 0..count {
        moment = calendar.next_after(moment).unwrap();
        found.push(moment.to_string());
    }
    found
}

#[test]
fn fields_and_nicknames() {
    let nightly = calendar("30 2 * * *", "");
    assert_eq!(
        next(&nightly, "2026-03-01T02:30:00Z", 2),
        ["2026-03-02T02:30:00Z", "2026-03-03T02:30:00Z"]
    );
    assert_eq!(
        next(
            &calendar("@monthly", "Asia/Tokyo"),
            "2026-03-01T00:00:00Z",
            1
        ),
        ["2026-03-31T15:00:00Z"]
    );
    // With seconds, and the last day of each month.
    assert_eq!(
        next(&calendar("15 0 12 L * *", ""), "2026-02-01T00:00:00Z", 2),
        ["2026-02-28T12:00:15Z", "2026-03-31T12:00:15Z"]
    );
    let weekly = Calendar::parse(Words {
        calendar: "",
        datetime: "",
        occurrence: Some(Occurrence::Weekly),
        time_zone: "",
    });
    assert_eq!(
        next(&weekly.unwrap(), "2026-03-03T00:00:00Z", 1),
        ["2026-03-08T00:00:00Z"]
    );
}

/// 29 March 2026: 02:00 becomes 03:00 in Berlin; 25 October: 03:00 becomes 02:00.
#[test]
fn a_clock_that_is_put_forward_or_back_neither_loses_nor_doubles_a_run() {
    let nightly = calendar("30 2 * * *", "Europe/Berlin");
    assert_eq!(
        next(&nightly, "2026-03-28T00:00:00Z", 3),
        [
            "2026-03-28T01:30:00Z",
            // 03:00, the first moment after the jump.
            "2026-03-29T01:00:00Z",
            "2026-03-30T00:30:00Z"
        ]
    );
    assert_eq!(
        next(&nightly, "2026-10-24T12:00:00Z", 2),
        ["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]
    );
    let daily = from("2026-03-27T02:30:00", Occurrence::Daily, "Europe/Berlin");
    assert_eq!(
        next(&daily, "2026-03-28T12:00:00Z", 2),
        ["2026-03-29T01:30:00Z", "2026-03-30T00:30:00Z"]
    );
    assert_eq!(
        next(&daily, "2026-10-24T12:00:00Z", 2),
        ["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]
    );
    for hourly in [
        calendar("0 * * * *", "Europe/Berlin"),
        from("2026-01-01T00:00:00", Occurrence::Hourly, "Europe/Berlin"),
    ] {
        for day in ["2026-03-28T23:00:00Z", "2026-10-24T22:00:00Z"] {
            let times = next(&hourly, day, 6);
            let start = at(day);
            let even = (1..=6).map(|n| (start + SignedDuration::from_hours(n)).to_string());
            assert_eq!(times, even.collect::<Vec<_>>());
        }
    }
}

#[test]
fn short_months_and_leap_years_do_not_wear_off() {
    let monthly = from("2026-01-31T01:00:00", Occurrence::Monthly, "");
    assert_eq!(
        next(&monthly, "2026-01-31T01:00:00Z", 3),
        [
            "2026-02-28T01:00:00Z",
            "2026-03-31T01:00:00Z",
            "2026-04-30T01:00:00Z"
        ]
    );
    let yearly = from("2024-02-29T01:00:00Z", Occurrence::Yearly, "");
    assert_eq!(
        next(&yearly, "2026-03-01T00:00:00Z", 2),
        ["2027-02-28T01:00:00Z", "2028-02-29T01:00:00Z"]
    );
    // Cron leaves out what a month does not have.
    assert_eq!(
        next(&calendar("0 1 31 * *", ""), "2026-01-31T01:00:00Z", 1),
        ["2026-03-31T01:00:00Z"]
    );
    let once = from("2026-01-31T01:00:00+02:00", Occurrence::Once, "Asia/Tokyo");
    assert_eq!(
        next(&once, "2026-01-01T00:00:00Z", 1),
        ["2026-01-30T23:00:00Z"]
    );
    assert_eq!(once.next_after(at("2026-01-30T23:00:00Z")), None);
}

/// Samoa had no 30 December 2011.
#[test]
fn a_day_that_is_skipped_is_no_end() {
    let apia = calendar("0 12 * * *", "Pacific/Apia");
    let times = next(&apia, "2011-12-29T00:00:00Z", 3);
    let jump = at("2011-12-30T10:00:00Z");
    assert!(times.iter().any(|time| at(time) > jump), "{times:?}");
}

#[test]
fn what_cannot_be_meant_is_refused_and_says_what_to_do() {
    let words = |calendar, datetime, occurrence, time_zone| Words {
        calendar,
        datetime,
        occurrence,
        time_zone,
    };
    for (wrong, said) in [
        (words("", "", None, ""), "say when"),
        (words("", "", Some(Occurrence::Once), ""), "when?"),
        (words("@daily", "2026-01-01T00:00:00", None, ""), "either"),
        (words("* * *", "", None, ""), "minute, hour, day"),
        (words("61 * * * *", "", None, ""), "cannot be read"),
        (words("", "tomorrow", None, ""), "ISO 8601"),
        (
            words("@daily", "", None, "Europe/Atlantis"),
            "Europe/Berlin",
        ),
    ] {
        let error = Calendar::parse(wrong).unwrap_err();
        assert!(error.contains(said), "{said}: {error}");
    }
    let now = at("2026-01-01T00:00:00Z");
    for (wrong, said) in [
        (calendar("0 0 30 2 *", ""), "never due"),
        (calendar("*/10 * * * * *", ""), "a minute apart"),
        (calendar("0,30 5 2 * * *", ""), "a minute apart"),
        (
            from("2025-12-31T00:00:00", Occurrence::Once, ""),
            "never due",
        ),
    ] {
        let error = wrong.check(now).unwrap_err();
        assert!(error.contains(said), "{said}: {error}");
    }
    calendar("* * * * *", "").check(now).unwrap();
}

const ZONES: [&str; 6] = [
    "",
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "Asia/Kathmandu",
    "America/St_Johns",
];

fn calendars() -> impl Strategy<Value = Calendar> {
    let zone = || prop::sample::select(&ZONES[..]);
    let fields = prop_oneof![
        (0..60_u8, 0..24_u8).prop_map(|(minute, hour)| format!("{minute} {hour} * * *")),
        (5..60_u8).prop_map(|step| format!("*/{step} * * * *")),
        (0..60_u8, 1..6_u8).prop_map(|(minute, step)| format!("{minute} */{step} * * *")),
        (0..60_u8, 0..24_u8, 0..7_u8).prop_map(|(m, h, day)| format!("{m} {h} * * {day}")),
        (0..60_u8, 0..24_u8, 1..32_u8).prop_map(|(m, h, day)| format!("{m} {h} {day} * *")),
    ];
    let often = prop::sample::select(vec![
        Occurrence::Hourly,
        Occurrence::Daily,
        Occurrence::Weekly,
        Occurrence::Monthly,
        Occurrence::Yearly,
    ]);
    let first = (1_700_000_000_i64..1_800_000_000).prop_map(|s| {
        let at = Timestamp::from_second(s).unwrap();
        at.to_zoned(TimeZone::UTC).datetime().to_string()
    });
    prop_oneof![
        (fields, zone()).prop_map(|(fields, zone)| calendar(&fields, zone)),
        (first, often, zone()).prop_map(|(first, often, zone)| from(&first, often, zone)),
    ]
}

fn moments() -> impl Strategy<Value = Timestamp> {
    (1_750_000_000_000_i64..1_900_000_000_000)
        .prop_map(|ms| Timestamp::from_millisecond(ms).unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_next_time_is_later_and_nothing_is_due_before_it(
        calendar in calendars(),
        moment in moments(),
        share in 0.0..1.0_f64,
    ) {
        let next = calendar.next_after(moment).unwrap();
        prop_assert!(next > moment);
        let between = next.duration_since(moment).mul_f64(share);
        let between = (moment + between).min(next - SignedDuration::from_nanos(1));
        prop_assert_eq!(calendar.next_after(between), Some(next));
    }

    #[test]
    fn the_latest_one_is_found_as_by_counting(
        calendar in calendars(),
        moment in moments(),
        hours in 0..500_i64,
    ) {
        let until = moment + SignedDuration::from_hours(hours);
        let mut counted = None;
        while let Some(next) = calendar.next_after(counted.unwrap_or(moment)).filter(|at| *at <= until) {
            counted = Some(next);
        }
        prop_assert_eq!(calendar.latest(moment, until), counted);
    }

    /// Whoever looks now and then, at whatever moments, sees each time that is due no more than once, and is never
    /// without a run for longer than it did not look.
    #[test]
    fn looking_at_any_moments_loses_nothing(
        calendar in calendars(),
        moment in moments(),
        pauses in prop::collection::vec(1..200_000_i64, 1..30),
    ) {
        let (mut now, mut seen) = (moment, moment);
        for pause in pauses {
            now += SignedDuration::from_secs(pause);
            if let Some(due) = calendar.latest(seen, now) {
                prop_assert!(due > seen && due <= now);
                seen = due;
            }
            // What is not dealt with is still to come.
            prop_assert!(calendar.next_after(seen).unwrap() > now);
        }
    }
}

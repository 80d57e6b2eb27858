use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn item(volume: &str, number: u32, cut_at: &str) -> Item {
    let cut_at: Timestamp = cut_at.parse().unwrap();
    Item {
        snapshot_id: SnapshotId::new(format!("s-{number}")).unwrap(),
        volume_id: VolumeId::new(volume).unwrap(),
        cut_at,
        committed_at: cut_at,
    }
}

fn kept(choices: &[Choice]) -> Vec<String> {
    let stay = choices.iter().filter(|choice| choice.stays());
    stay.map(|c| c.item.snapshot_id.to_string()).collect()
}

#[test]
fn each_rule_keeps_what_its_name_says() {
    let times = [
        "2026-03-02T23:00:00Z", // Monday
        "2026-03-02T01:00:00Z",
        "2026-03-01T12:00:00Z", // Sunday: the week before
        "2026-02-28T12:00:00Z",
        "2026-01-15T12:00:00Z",
        "2025-06-01T12:00:00Z",
    ];
    let items: Vec<Item> = (0..).zip(times).map(|(n, at)| item("v", n, at)).collect();
    let now = "2026-03-03T00:00:00Z".parse().unwrap();
    let with = |retention: Retention| kept(&plan(&items, &retention, now));
    let none = Retention::default;
    assert_eq!(with(Retention { last: 2, ..none() }), ["s-0", "s-1"]);
    assert_eq!(with(Retention { daily: 2, ..none() }), ["s-0", "s-2"]);
    assert_eq!(
        with(Retention {
            weekly: 2,
            ..none()
        }),
        ["s-0", "s-2"]
    );
    assert_eq!(
        with(Retention {
            monthly: 3,
            ..none()
        }),
        ["s-0", "s-3", "s-4"]
    );
    assert_eq!(
        with(Retention {
            yearly: 9,
            ..none()
        }),
        ["s-0", "s-5"]
    );
    let within = Some(SignedDuration::from_hours(48));
    assert_eq!(with(Retention { within, ..none() }), ["s-0", "s-1", "s-2"]);
    // Without any rule the newest stays, and only it.
    assert_eq!(with(none()), ["s-0"]);
}

#[test]
fn a_week_at_the_turn_of_the_year_is_one_week() {
    let items = [
        item("v", 0, "2027-01-01T00:00:00Z"),
        item("v", 1, "2026-12-31T00:00:00Z"),
        item("v", 2, "2026-12-20T00:00:00Z"),
    ];
    let retention = Retention {
        weekly: 2,
        ..Retention::default()
    };
    let now = "2027-01-02T00:00:00Z".parse().unwrap();
    assert_eq!(kept(&plan(&items, &retention, now)), ["s-0", "s-2"]);
}

/// One backup by a host whose clock was years ahead must not push the others out, nor count as the newest.
#[test]
fn what_a_wrong_clock_cut_stays_and_takes_no_place() {
    let items = [
        item("v", 0, "2031-01-01T00:00:00Z"),
        item("v", 1, "2026-03-02T00:10:00Z"),
        item("v", 2, "2026-03-01T00:00:00Z"),
    ];
    let now = "2026-03-02T00:00:00Z".parse().unwrap();
    let one = Retention {
        last: 1,
        ..Retention::default()
    };
    let choices = plan(&items, &one, now);
    assert_eq!(kept(&choices), ["s-0", "s-1"]);
    assert_eq!(choices[0].kept_by, [Rule::Ahead]);
}

fn any_items() -> impl Strategy<Value = Vec<Item>> {
    let one = (0..3_u8, 0..200_000_000_i64, 0..4_i64);
    proptest::collection::vec(one, 0..40).prop_map(|drawn| {
        let item = |(n, (volume, at, late)): (usize, (u8, i64, i64))| Item {
            snapshot_id: SnapshotId::new(format!("s-{n}")).unwrap(),
            volume_id: VolumeId::new(format!("v-{volume}")).unwrap(),
            // Coarse, so that several are of the same moment.
            cut_at: Timestamp::from_second(1_700_000_000 + at / 7_000 * 7_000).unwrap(),
            committed_at: Timestamp::from_second(1_900_000_000 + late).unwrap(),
        };
        drawn.into_iter().enumerate().map(item).collect()
    })
}

fn any_retention() -> impl Strategy<Value = Retention> {
    let few = || 0..6_u32;
    let within = proptest::option::of(0..5_000_i64);
    (few(), few(), few(), few(), few(), within).prop_map(
        |(last, daily, weekly, monthly, yearly, hours)| Retention {
            last,
            daily,
            weekly,
            monthly,
            yearly,
            within: hours.map(SignedDuration::from_hours),
        },
    )
}

proptest! {
    #[test]
    fn a_policy_never_takes_too_much(items in any_items(), retention in any_retention(), days in 0..4_000_i64) {
        let now = Timestamp::from_second(1_700_000_000 + days * 86_400).unwrap();
        let choices = plan(&items, &retention, now);
        let mut volumes: BTreeMap<&VolumeId, Vec<&Choice>> = BTreeMap::new();
        for choice in &choices {
            volumes.entry(&choice.item.volume_id).or_default().push(choice);
        }
        prop_assert_eq!(choices.len(), items.len());
        for item in &items {
            let of_volume = &volumes[&item.volume_id];
            prop_assert_eq!(of_volume.iter().filter(|c| c.item == *item).count(), 1);
        }
        for of_volume in volumes.values_mut() {
            let (ahead, there): (Vec<&Choice>, Vec<&Choice>) =
                of_volume.iter().partition(|c| is_ahead(c.item.cut_at, now));
            prop_assert!(ahead.iter().all(|c| c.kept_by == [Rule::Ahead]));
            *of_volume = there;
            if of_volume.is_empty() {
                continue;
            }
            prop_assert!(of_volume.is_sorted_by(|a, b| a.item.cut_at >= b.item.cut_at));
            // The newest stays, and the newest so many.
            prop_assert!(of_volume[0].stays());
            let last = (retention.last as usize).min(of_volume.len());
            prop_assert!(of_volume[..last].iter().all(|c| c.kept_by.contains(&Rule::Last)));
            // No rule keeps more than its number, and each keeps all it may while there is something to keep.
            let rules = [
                (Rule::Daily, Period::Day, retention.daily),
                (Rule::Weekly, Period::Week, retention.weekly),
                (Rule::Monthly, Period::Month, retention.monthly),
                (Rule::Yearly, Period::Year, retention.yearly),
            ];
            for (rule, period, most) in rules {
                let mut periods: Vec<i64> = of_volume.iter().map(|c| period.of(c.item.cut_at)).collect();
                periods.dedup();
                let kept = of_volume.iter().filter(|c| c.kept_by.contains(&rule)).count();
                prop_assert_eq!(kept, periods.len().min(most as usize));
            }
            if let Some(within) = retention.within {
                for gone in of_volume.iter().filter(|c| !c.stays()) {
                    prop_assert!(now.duration_since(gone.item.cut_at) >= within);
                }
            }
        }
    }

    #[test]
    fn more_time_only_matters_to_within(items in any_items(), retention in any_retention()) {
        let retention = Retention { within: None, ..retention };
        let early = plan(&items, &retention, Timestamp::from_second(1_900_000_000).unwrap());
        prop_assert_eq!(early, plan(&items, &retention, Timestamp::from_second(4_000_000_000).unwrap()));
    }

    #[test]
    fn a_second_run_gives_nothing_up(items in any_items(), retention in any_retention()) {
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let stay = |choices: Vec<Choice>| -> Vec<Item> {
            choices.into_iter().filter(Choice::stays).map(|c| c.item).collect()
        };
        let once = stay(plan(&items, &retention, now));
        prop_assert_eq!(stay(plan(&once, &retention, now)), once);
    }
}

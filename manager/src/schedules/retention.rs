//! Which backups of a schedule stay. This only thinks; the rules are the repository's ([`forget::plan`]), so that `stockpot forget`
//! and a schedule mean the same by the same words.

use std::collections::BTreeMap;

use jiff::Timestamp;
use stockpot_driver::{SnapshotId, VolumeId};
use stockpot_repository::forget::{self, Rule};

use super::spec::Keep;
use crate::cloud;

/// A backup as far as a policy looks at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Item {
    pub(crate) volume_id: VolumeId,
    pub(crate) snapshot_id: SnapshotId,
    /// The moment that it shows.
    pub(crate) cut_at: Option<Timestamp>,
    /// When its cloud copy was committed and read back; `None`: it is not.
    pub(crate) committed_at: Option<Timestamp>,
}

/// What becomes of a backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It stays, because of this.
    Stays(String),
    /// No rule keeps it.
    Goes,
}

/// Judges backups, each volume by itself: a verdict for each, in their order.
pub(crate) fn plan(items: &[Item], keep: Keep, now: Timestamp) -> Vec<Verdict> {
    let policy = keep.policy();
    if policy.is_empty() {
        let stays = || Verdict::Stays("no retention: everything is kept".to_owned());
        return items.iter().map(|_| stays()).collect();
    }
    let judged: Vec<forget::Item> = items.iter().filter_map(judged).collect();
    let mut rules: BTreeMap<String, Vec<Rule>> = BTreeMap::new();
    for choice in forget::plan(&judged, &policy, now) {
        rules.insert(choice.item.snapshot_id.to_string(), choice.kept_by);
    }
    let verdict = |item: &Item| match rules.get(item.snapshot_id.as_str()) {
        None => Verdict::Stays("not committed".to_owned()),
        Some(rules) if rules.is_empty() => Verdict::Goes,
        Some(rules) => {
            let words: Vec<&str> = rules.iter().map(|rule| rule.word()).collect();
            Verdict::Stays(words.join(", "))
        }
    };
    items.iter().map(verdict).collect()
}

/// What is not committed is not judged.
fn judged(item: &Item) -> Option<forget::Item> {
    Some(forget::Item {
        snapshot_id: cloud::format_snapshot(&item.snapshot_id).ok()?,
        volume_id: cloud::format_volume(&item.volume_id).ok()?,
        cut_at: item.cut_at?,
        committed_at: item.committed_at?,
    })
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;
    use proptest::prelude::*;

    use super::*;

    const NOW: Timestamp = Timestamp::constant(1_800_000_000, 0);

    fn item(volume: u8, number: usize, hours_ago: i64, is_committed: bool) -> Item {
        let cut_at = NOW - SignedDuration::from_hours(hours_ago);
        Item {
            volume_id: format!("vol-{volume}").parse().unwrap(),
            snapshot_id: format!("snap-{number}").parse().unwrap(),
            cut_at: Some(cut_at),
            committed_at: is_committed.then_some(cut_at),
        }
    }

    #[test]
    fn the_words_of_the_rules_are_told() {
        let items = [
            item(1, 0, 1, true),
            item(1, 1, 30, true),
            item(1, 2, 60, true),
            item(1, 3, 0, false),
        ];
        let keep = Keep {
            last: 1,
            daily: 2,
            ..Keep::default()
        };
        let verdicts = plan(&items, keep, NOW);
        assert_eq!(verdicts[0], Verdict::Stays("last, daily".to_owned()));
        assert_eq!(verdicts[1], Verdict::Stays("daily".to_owned()));
        assert_eq!(verdicts[2], Verdict::Goes);
        assert_eq!(verdicts[3], Verdict::Stays("not committed".to_owned()));
        let all = plan(&items, Keep::default(), NOW);
        assert!(all.iter().all(|verdict| *verdict != Verdict::Goes));
    }

    fn keeps() -> impl Strategy<Value = Keep> {
        let few = || 0..4_u32;
        (
            few(),
            few(),
            few(),
            few(),
            few(),
            prop_oneof![Just(0), 1..60_u32],
        )
            .prop_map(|(last, daily, weekly, monthly, yearly, days)| Keep {
                last,
                daily,
                weekly,
                monthly,
                yearly,
                days,
            })
    }

    fn backups() -> impl Strategy<Value = Vec<Item>> {
        prop::collection::vec(
            (0..3_u8, -48..20_000_i64, any::<bool>(), any::<bool>()),
            0..40,
        )
        .prop_map(|all| {
            let numbered = all.into_iter().enumerate();
            let made = numbered.map(|(number, (volume, hours, committed, has_cut))| {
                let mut item = item(volume, number, hours, committed);
                item.cut_at = item.cut_at.filter(|_| has_cut || committed);
                item
            });
            made.collect()
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn the_newest_committed_copy_and_what_is_not_committed_stay(items in backups(), keep in keeps()) {
            let verdicts = plan(&items, keep, NOW);
            prop_assert_eq!(verdicts.len(), items.len());
            for volume in 0..3 {
                let id: VolumeId = format!("vol-{volume}").parse().unwrap();
                let of_volume = || items.iter().zip(&verdicts).filter(|(item, _)| item.volume_id == id);
                let committed = of_volume().filter(|(item, _)| item.committed_at.is_some());
                if let Some((_, verdict)) = committed.max_by_key(|(item, _)| item.cut_at) {
                    prop_assert_ne!(verdict, &Verdict::Goes);
                }
                for (item, verdict) in of_volume() {
                    prop_assert!(item.committed_at.is_some() || *verdict != Verdict::Goes);
                    let age = item.cut_at.map(|at| NOW.duration_since(at));
                    let young = age.is_some_and(|age| age < SignedDuration::from_hours(i64::from(keep.days) * 24));
                    prop_assert!(!young || *verdict != Verdict::Goes);
                }
                let committed = of_volume().filter(|(item, _)| item.committed_at.is_some()).count();
                let stay = of_volume()
                    .filter(|(item, verdict)| item.committed_at.is_some() && **verdict != Verdict::Goes)
                    .count();
                prop_assert!(stay >= committed.min(keep.last as usize));
            }
        }

        /// Who says that more is to be kept loses nothing by it, and what goes once does not come back by waiting.
        #[test]
        fn more_keeps_more_and_later_keeps_less(items in backups(), keep in keeps(), more in keeps(), hours in 0..2000_i64) {
            prop_assume!(!keep.policy().is_empty());
            let wider = Keep {
                last: keep.last + more.last,
                daily: keep.daily + more.daily,
                weekly: keep.weekly + more.weekly,
                monthly: keep.monthly + more.monthly,
                yearly: keep.yearly + more.yearly,
                days: keep.days + more.days,
            };
            let items: Vec<Item> = items.into_iter().filter(|item| item.cut_at.is_none_or(|at| at <= NOW)).collect();
            let (narrow, wide) = (plan(&items, keep, NOW), plan(&items, wider, NOW));
            let later = plan(&items, keep, NOW + SignedDuration::from_hours(hours));
            for ((narrow, wide), later) in narrow.iter().zip(&wide).zip(&later) {
                prop_assert!(*narrow == Verdict::Goes || *wide != Verdict::Goes);
                prop_assert!(*narrow != Verdict::Goes || *later == Verdict::Goes);
            }
        }

        /// What was given up and what is left: judged again at the same moment, all that is left stays.
        #[test]
        fn judging_again_gives_nothing_more_up(items in backups(), keep in keeps()) {
            let verdicts = plan(&items, keep, NOW);
            let left: Vec<Item> = items
                .iter()
                .zip(&verdicts)
                .filter(|(_, verdict)| **verdict != Verdict::Goes)
                .map(|(item, _)| item.clone())
                .collect();
            prop_assert!(plan(&left, keep, NOW).iter().all(|verdict| *verdict != Verdict::Goes));
        }
    }
}

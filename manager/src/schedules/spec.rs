//! What a schedule says: read from a request or a profile, checked, kept as JSON.

use std::collections::{BTreeMap, HashMap};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use stockpot_proto::stockpot::v1 as api;
use stockpot_repository::forget;

use super::calendar::{Calendar, Words};
use crate::{
    ManagerError,
    catalog::VolumeRow,
    profile::{Occurrence, Profile},
    request,
};

/// Longest name, in bytes: it is the start of the names of the backups.
const NAME_LEN_MAX: usize = 63;
/// What the names of profiles' schedules start with. No other may have it.
const OF_PROFILE: &str = "profile:";
/// Most patterns of volumes.
const PATTERNS_MAX: usize = 1000;
/// Most of what a schedule may say, in bytes of JSON.
const SIZE_MAX: usize = 64 << 10;
/// Longest delay of a backup, in seconds.
const JITTER_S_MAX: u32 = 24 * 3600;
/// The longest that ages are counted, in days.
const DAYS_MAX: u32 = 36_500;
/// Volumes name the profile that acts on them by these metadata.
const PROFILE_KEYS: [&str; 2] = ["profile", "profileId"];

/// What a schedule says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Spec {
    pub(crate) calendar: String,
    pub(crate) datetime: String,
    pub(crate) occurrence: Option<Occurrence>,
    pub(crate) time_zone: String,
    pub(crate) volumes: Vec<String>,
    pub(crate) selector: BTreeMap<String, String>,
    /// It acts on the volumes that name its profile.
    pub(crate) of_profile: bool,
    pub(crate) profile: String,
    pub(crate) full_every: u32,
    pub(crate) jitter_s: u32,
    pub(crate) skip_in_use: bool,
    pub(crate) keep: Keep,
}

/// What is kept, of each volume.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Keep {
    pub(crate) last: u32,
    pub(crate) daily: u32,
    pub(crate) weekly: u32,
    pub(crate) monthly: u32,
    pub(crate) yearly: u32,
    pub(crate) days: u32,
}

impl Keep {
    /// In the words of the repository, whose rules these are.
    pub(crate) fn policy(self) -> forget::Retention {
        forget::Retention {
            last: self.last,
            daily: self.daily,
            weekly: self.weekly,
            monthly: self.monthly,
            yearly: self.yearly,
            within: (self.days > 0).then(|| SignedDuration::from_hours(i64::from(self.days) * 24)),
        }
    }
}

impl Spec {
    /// What a request says. Whether it can be is another question: [`check`](Self::check).
    ///
    /// # Errors
    /// `InvalidArgument` for an occurrence that is none.
    pub(crate) fn of_request(request: &api::Schedule) -> Result<Self, ManagerError> {
        let keep = request.retention.unwrap_or_default();
        Ok(Self {
            calendar: request.calendar.trim().to_owned(),
            datetime: request.datetime.trim().to_owned(),
            occurrence: occurrence(request.occurrence.trim())?,
            time_zone: request.time_zone.clone(),
            volumes: request.volumes.clone(),
            selector: request.selector.clone().into_iter().collect(),
            of_profile: false,
            profile: request.profile.clone(),
            full_every: request.full_every,
            jitter_s: request.jitter_seconds,
            skip_in_use: request.skip_in_use,
            keep: Keep {
                last: keep.keep_last,
                daily: keep.keep_daily,
                weekly: keep.keep_weekly,
                monthly: keep.keep_monthly,
                yearly: keep.keep_yearly,
                days: keep.keep_days,
            },
        })
    }

    /// What a profile says, if it says when.
    pub(crate) fn of_profile(profile: &Profile) -> Option<Self> {
        let properties = profile.snapshot_properties.as_ref()?;
        let schedule = properties.schedule.as_ref()?;
        let keep = properties.retention.as_ref();
        Some(Self {
            datetime: schedule.datetime.clone().unwrap_or_default(),
            occurrence: schedule.occurrence,
            of_profile: true,
            profile: profile.name.clone(),
            keep: Keep {
                last: keep.and_then(|keep| keep.number).unwrap_or_default(),
                days: keep.and_then(|keep| keep.duration).unwrap_or_default(),
                ..Keep::default()
            },
            ..Self::default()
        })
    }

    /// Its times.
    ///
    /// # Errors
    /// `InvalidArgument`, with what to say instead.
    pub(crate) fn times(&self) -> Result<Calendar, ManagerError> {
        let words = Words {
            calendar: &self.calendar,
            datetime: &self.datetime,
            occurrence: self.occurrence,
            time_zone: &self.time_zone,
        };
        Calendar::parse(words).map_err(ManagerError::InvalidArgument)
    }

    /// Whether it is due at other times than another one.
    pub(crate) fn differs_in_time(&self, other: &Self) -> bool {
        let times = |spec: &Self| {
            let (calendar, datetime) = (spec.calendar.clone(), spec.datetime.clone());
            (calendar, datetime, spec.occurrence, spec.time_zone.clone())
        };
        times(self) != times(other)
    }

    /// Refuses what cannot be, now and later.
    ///
    /// # Errors
    /// `InvalidArgument`.
    pub(crate) fn check(&self, now: Timestamp) -> Result<(), ManagerError> {
        let wrong = |problem: String| Err(ManagerError::InvalidArgument(problem));
        if let Err(problem) = self.times()?.check(now) {
            return wrong(problem);
        }
        if self.volumes.len() > PATTERNS_MAX || self.volumes.iter().any(String::is_empty) {
            return wrong(format!(
                "volumes are named by at most {PATTERNS_MAX} ids, names or patterns, none of them empty"
            ));
        }
        let selector: HashMap<_, _> = self.selector.clone().into_iter().collect();
        request::check_metadata(&selector)?;
        if self.jitter_s > JITTER_S_MAX {
            return wrong(format!(
                "a delay of {} s is too long; {JITTER_S_MAX} is the most",
                self.jitter_s
            ));
        }
        if self.keep.days > DAYS_MAX {
            return wrong(format!(
                "{} days are too many; {DAYS_MAX} is the most",
                self.keep.days
            ));
        }
        if self.to_json().len() > SIZE_MAX {
            return wrong(format!("it is longer than {SIZE_MAX} bytes"));
        }
        Ok(())
    }

    /// Whether it acts on a volume.
    pub(crate) fn takes(&self, volume: &VolumeRow) -> bool {
        if !volume.status.is_there() {
            return false;
        }
        if self.of_profile {
            let names_it = |key: &&str| volume.metadata.get(*key) == Some(&self.profile);
            return PROFILE_KEYS.iter().any(names_it);
        }
        let fits = |pattern: &String| {
            matches(pattern, volume.id.as_str()) || matches(pattern, &volume.name)
        };
        let is_named = self.volumes.is_empty() || self.volumes.iter().any(fits);
        let carries = |(key, value): (&String, &String)| volume.metadata.get(key) == Some(value);
        is_named && self.selector.iter().all(carries)
    }

    /// As it is kept.
    pub(crate) fn to_json(&self) -> String {
        serde_json::to_string(self).expect("plain fields and maps of strings are JSON")
    }

    /// From what is kept.
    ///
    /// # Errors
    /// `Internal`: somebody wrote into the catalog.
    pub(crate) fn of_json(text: &str) -> Result<Self, ManagerError> {
        serde_json::from_str(text)
            .map_err(|error| ManagerError::Internal(format!("a schedule in the catalog: {error}")))
    }
}

/// Refuses a name that cannot be a schedule's.
pub(crate) fn check_name(name: &str) -> Result<(), ManagerError> {
    let sound = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let starts = name.starts_with(|c: char| c.is_ascii_alphanumeric());
    if starts && name.len() <= NAME_LEN_MAX && name.chars().all(sound) {
        return Ok(());
    }
    Err(ManagerError::InvalidArgument(format!(
        "the name of a schedule has 1 to {NAME_LEN_MAX} letters, digits, '-', '_' or '.', and starts with a letter or digit"
    )))
}

/// The name of a profile's schedule.
pub(crate) fn name_of_profile(profile: &str) -> String {
    format!("{OF_PROFILE}{profile}")
}

/// The profile whose schedule has this name.
pub(crate) fn profile_of_name(name: &str) -> Option<&str> {
    name.strip_prefix(OF_PROFILE)
}

fn occurrence(text: &str) -> Result<Option<Occurrence>, ManagerError> {
    let all = Occurrence::ALL;
    let found = all
        .into_iter()
        .find(|often| often.word().eq_ignore_ascii_case(text));
    match found {
        None if !text.is_empty() => Err(ManagerError::InvalidArgument(format!(
            "{text:?} is no occurrence; say one of {}",
            all.map(Occurrence::word).join(", ")
        ))),
        found => Ok(found),
    }
}

/// Whether a text fits a pattern, in which `*` stands for anything.
fn matches(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else {
        return false;
    };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else {
        return rest.is_empty();
    };
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_stand_for_what_they_say() {
        for (pattern, text, fits) in [
            ("data", "data", true),
            ("data", "data-1", false),
            ("data-*", "data-1", true),
            ("*", "", true),
            ("*-db", "web-db", true),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-c-b", false),
            ("ab*ba", "aba", false),
            ("**x", "x", true),
            ("", "x", false),
        ] {
            assert_eq!(matches(pattern, text), fits, "{pattern} {text}");
        }
    }

    #[test]
    fn names_leave_room_for_those_of_profiles() {
        for good in ["nightly", "a", "2nd.weekly_x-y"] {
            check_name(good).unwrap();
        }
        for bad in ["", "-x", "a b", "profile:x", "a/b", "ä", &"x".repeat(64)] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
        assert_eq!(profile_of_name(&name_of_profile("gold")), Some("gold"));
        assert_eq!(profile_of_name("gold"), None);
    }

    #[test]
    fn a_request_is_kept_as_it_is_and_mistakes_are_told() {
        let request = api::Schedule {
            name: "n".to_owned(),
            datetime: "2026-01-31T02:00:00".to_owned(),
            occurrence: "daily".to_owned(),
            time_zone: "Europe/Berlin".to_owned(),
            volumes: vec!["data-*".to_owned()],
            selector: [("tier".to_owned(), "gold".to_owned())].into(),
            full_every: 7,
            jitter_seconds: 60,
            retention: Some(api::Retention {
                keep_last: 3,
                keep_days: 30,
                ..api::Retention::default()
            }),
            ..api::Schedule::default()
        };
        let spec = Spec::of_request(&request).unwrap();
        assert_eq!(spec.occurrence, Some(Occurrence::Daily));
        assert_eq!(Spec::of_json(&spec.to_json()).unwrap(), spec);
        let now = "2026-01-01T00:00:00Z".parse().unwrap();
        spec.check(now).unwrap();
        let policy = spec.keep.policy();
        assert_eq!(policy.within, Some(SignedDuration::from_hours(720)));
        let wrong = |change: fn(&mut api::Schedule)| {
            let mut request = request.clone();
            change(&mut request);
            let read = Spec::of_request(&request);
            read.and_then(|spec| spec.check(now))
                .unwrap_err()
                .to_string()
        };
        for (said, change) in [
            (
                "Hourly",
                (|r| r.occurrence = "often".to_owned()) as fn(&mut api::Schedule),
            ),
            ("either", |r| r.calendar = "@daily".to_owned()),
            ("empty", |r| r.volumes.push(String::new())),
            ("too long", |r| r.jitter_seconds = 90_000),
            ("too many", |r| {
                r.retention.as_mut().unwrap().keep_days = 40_000
            }),
            ("metadata", |r| {
                r.selector.insert("k".to_owned(), "v".repeat(5000));
            }),
        ] {
            let error = wrong(change);
            assert!(error.contains(said), "{said}: {error}");
        }
    }
}

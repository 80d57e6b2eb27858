//! A volume that takes another one's place, by one step of LVM's.
//!
//! The step is one tag: a logical volume with `stockpot.becomes=ID` is volume ID from then on, whatever its other tags say, and the
//! one that was that volume is superseded. Before the step nothing has changed. After it what is left to do can be done at any
//! time, and is: by the same call, by the next one, at the next start. The superseded one is removed; then the new one gets the
//! name and the tags of any volume, and keeps `stockpot.replaced=` with the id it was made with, by which a repeated call knows
//! that it was done.
//!
//! Each of these commands is one commit of LVM's metadata or several in the order given, and each state between them is read
//! alike ([`tell_apart`]).

use super::{
    commands,
    names::{Marks, Tags, former_tag, id_tag, name_tag, volume_lv},
    report::{Lv, Report},
};
use crate::{DriverError, VolumeId, name::Name};

/// Reads from the marks which logical volume is which volume, where one took another's place.
pub(super) fn tell_apart(lvs: &mut [Lv]) {
    let mut taken = Vec::new();
    for lv in lvs.iter_mut() {
        let Some(becomes) = lv.marks.becomes.clone() else {
            continue;
        };
        let Some(Tags::Volume { id, .. }) = &mut lv.tags else {
            continue;
        };
        if *id != becomes {
            lv.marks.replaced = Some(std::mem::replace(id, becomes.clone()));
        }
        taken.push((lv.pool.clone(), becomes));
    }
    for lv in lvs.iter_mut().filter(|lv| lv.marks.becomes.is_none()) {
        let Some(Tags::Volume { id, .. }) = &lv.tags else {
            continue;
        };
        if taken.contains(&(lv.pool.clone(), id.clone())) {
            lv.marks.superseded = Some(id.clone());
            lv.tags = None;
        }
    }
}

/// Which of a group's replacements.
#[derive(Debug, Clone, Copy)]
pub(super) struct Of<'a> {
    /// The thin pool; `None`: what lies in none.
    pub(super) pool: Option<&'a str>,
    /// The volume; `None`: every one.
    pub(super) volume: Option<&'a VolumeId>,
}

impl Of<'_> {
    fn is(&self, lv: &Lv, volume: &VolumeId) -> bool {
        lv.pool.as_deref() == self.pool && self.volume.is_none_or(|wanted| wanted == volume)
    }
}

/// What others have superseded.
fn superseded<'a>(report: &'a Report, of: Of<'_>) -> impl Iterator<Item = &'a Lv> {
    let is_it = move |lv: &&Lv| lv.marks.superseded.as_ref().is_some_and(|id| of.is(lv, id));
    report.lvs.iter().filter(is_it)
}

/// What has taken another's place and has not all that goes with it.
fn unfinished<'a>(report: &'a Report, of: Of<'_>) -> impl Iterator<Item = (&'a Lv, &'a VolumeId)> {
    report.lvs.iter().filter_map(move |lv| match &lv.tags {
        Some(Tags::Volume { id, .. }) if lv.marks.becomes.is_some() && of.is(lv, id) => {
            Some((lv, id))
        }
        _ => None,
    })
}

/// Whether something is left to do.
pub(super) fn is_left(report: &Report, of: Of<'_>) -> bool {
    superseded(report, of).next().is_some() || unfinished(report, of).next().is_some()
}

/// Refuses what cannot take the place of the other.
pub(super) fn check(
    report: &Report,
    old: (&Lv, &VolumeId),
    new: (&Lv, &VolumeId),
) -> Result<(), DriverError> {
    report.refuse_taking_along(old.0, &Name::Volume(old.1.clone()).to_string())?;
    if new.0.size_bytes < old.0.size_bytes {
        return Err(DriverError::OutOfRange(format!(
            "volume {} of {} bytes cannot take the place of volume {} of {}",
            new.1, new.0.size_bytes, old.1, old.0.size_bytes
        )));
    }
    Ok(())
}

/// The step. Both are at rest; under the lock, like all that follows.
pub(super) async fn step(vg: &str, old: &Lv, new: &Lv, id: &VolumeId) -> Result<(), DriverError> {
    commands::add_tags(vg, &new.name, &taken_over(&old.marks, id)).await
}

/// What the new one is marked with: the volume that it is now, and what people call that and called it before, which only the
/// superseded one knows.
fn taken_over(old: &Marks, id: &VolumeId) -> Vec<String> {
    let mut tags = vec![Marks::becomes(id)];
    tags.extend(old.name.as_deref().map(name_tag));
    tags.extend(old.former.as_deref().map(former_tag));
    tags
}

/// Does what is left to do after the step.
pub(super) async fn finish(vg: &str, report: &Report, of: Of<'_>) -> Result<(), DriverError> {
    for lv in superseded(report, of) {
        report.refuse_taking_along(lv, &lv.name)?;
        if lv.active {
            commands::deactivate(vg, &lv.name).await?;
        }
        commands::remove(vg, &lv.name).await?;
        tracing::info!(vg, lv = lv.name, "what another volume replaced was removed");
    }
    for (lv, id) in unfinished(report, of) {
        let mut name = lv.name.clone();
        let wanted = volume_lv(id);
        let is_free = |other: &Lv| other.name != wanted || other.marks.superseded.is_some();
        if name != wanted && report.lvs.iter().all(is_free) {
            commands::rename(vg, &name, &wanted).await?;
            name = wanted;
        }
        let mut old = vec![Marks::becomes(id)];
        if let Some(made_as) = lv.marks.replaced.as_ref().filter(|made_as| *made_as != id) {
            commands::add_tags(vg, &name, &[id_tag(id), Marks::replaced(made_as)]).await?;
            // First: as long as it has both ids, the mark says which one counts.
            old.insert(0, id_tag(made_as));
        }
        commands::remove_tags(vg, &name, &old).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lv(name: &str, pool: Option<&str>, tags: &str) -> Lv {
        Lv {
            name: name.into(),
            size_bytes: 1,
            pool: pool.map(str::to_owned),
            tags: Tags::parse(tags),
            marks: Marks::parse(tags),
            active: false,
            open: false,
            suspended: false,
            read_only: false,
            is_striped: false,
            device: None,
            thin_id: None,
            origin: None,
            cow: None,
            thin_pool: None,
        }
    }

    fn tags(id: &str, more: &str) -> String {
        format!(
            "stockpot.kind=volume,stockpot.id={id},stockpot.from=empty,stockpot.made_bytes=1{more}"
        )
    }

    /// Which logical volume is volume `id`, what it was made as, and what is superseded.
    fn read(lvs: &mut [Lv], id: &str) -> (Vec<String>, Option<String>, Vec<String>) {
        tell_apart(lvs);
        let id: VolumeId = id.parse().unwrap();
        let found: Vec<&Lv> = lvs
            .iter()
            .filter(|lv| matches!(&lv.tags, Some(Tags::Volume { id: found, .. }) if *found == id))
            .collect();
        let replaced = found.first().and_then(|lv| lv.marks.replaced.as_ref());
        let gone = lvs.iter().filter(|lv| lv.marks.superseded.is_some());
        (
            found.iter().map(|lv| lv.name.clone()).collect(),
            replaced.map(ToString::to_string),
            gone.map(|lv| lv.name.clone()).collect(),
        )
    }

    /// Every state on the way, in the order in which the commands make them.
    #[test]
    fn at_each_moment_one_is_the_volume() {
        let before = tags("a", "");
        let after: &[(&str, String)] = &[
            ("new", tags("t", ",stockpot.becomes=a")),
            // LVM shows tags in an order of its own.
            (
                "new",
                tags("t", ",stockpot.id=a,stockpot.replaced=t,stockpot.becomes=a"),
            ),
            ("new", tags("a", ",stockpot.replaced=t,stockpot.becomes=a")),
            ("new", tags("a", ",stockpot.replaced=t")),
        ];
        let mut lvs = [
            lv("old", Some("p"), &before),
            lv("new", Some("p"), &tags("t", "")),
        ];
        assert_eq!(read(&mut lvs, "a"), (vec!["old".into()], None, vec![]));
        for (number, (name, new)) in after.iter().enumerate() {
            let mut lvs = vec![lv(name, Some("p"), new)];
            // It is removed first.
            if number == 0 {
                lvs.insert(0, lv("old", Some("p"), &before));
            }
            let (found, made_as, gone) = read(&mut lvs, "a");
            assert_eq!(found, ["new"], "{new}");
            assert_eq!(made_as.as_deref(), Some("t"), "{new}");
            assert_eq!(gone.len(), usize::from(number == 0), "{new}");
            let (found, ..) = read(&mut lvs, "t");
            assert!(found.is_empty(), "{new}");
        }
    }

    #[test]
    fn what_it_is_and_was_called_is_taken_over() {
        let id: VolumeId = "a".parse().unwrap();
        let old = lv(
            "old",
            None,
            &tags("a", ",stockpot.name=a#20b,stockpot.former=db,x"),
        );
        let all = taken_over(&old.marks, &id).join(",");
        let new = lv("new", None, &tags("t", &format!(",{all}")));
        let marks = &new.marks;
        assert_eq!(marks.becomes.as_ref(), Some(&id));
        assert_eq!(
            (&marks.name, &marks.former),
            (&old.marks.name, &old.marks.former)
        );
        assert_eq!(marks.name.as_deref(), Some("a b"));
        let plain = lv("old", None, &tags("a", ""));
        assert_eq!(taken_over(&plain.marks, &id), [Marks::becomes(&id)]);
    }

    #[test]
    fn a_second_time_and_in_other_pools() {
        let mut lvs = [
            lv("old", None, &tags("a", ",stockpot.replaced=t1")),
            lv("new", None, &tags("t2", ",stockpot.becomes=a")),
            lv("elsewhere", Some("p"), &tags("a", "")),
        ];
        let (found, _, gone) = read(&mut lvs, "a");
        assert_eq!((found.len(), gone), (2, vec!["old".to_owned()]));
        let of = Of {
            pool: None,
            volume: None,
        };
        let report = Report {
            extent_bytes: 1,
            size_bytes: 1,
            free_bytes: 1,
            metadata: Default::default(),
            lvs: lvs.to_vec(),
        };
        assert!(is_left(&report, of));
        let other = "b".parse().unwrap();
        assert!(!is_left(
            &report,
            Of {
                volume: Some(&other),
                ..of
            }
        ));
        assert!(!is_left(
            &report,
            Of {
                pool: Some("p"),
                ..of
            }
        ));
        let (old, new) = (&report.lvs[0], &report.lvs[1]);
        let id: VolumeId = "a".parse().unwrap();
        check(&report, (old, &id), (new, &other)).unwrap();
        let small = Lv {
            size_bytes: 0,
            ..new.clone()
        };
        let refused = check(&report, (old, &id), (&small, &other)).unwrap_err();
        assert!(matches!(refused, DriverError::OutOfRange(_)), "{refused}");
    }
}

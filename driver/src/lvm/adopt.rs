//! Logical volumes that others made become volumes of ours, and ours are let go.
//!
//! What makes one ours is its tags, which one command puts on and one takes away: so there is no state in between, and no byte of it
//! is touched. Its name comes after them. One that is open keeps the name it has until it is prepared to be connected to and nobody
//! has it open: a device whose links vanish under a mount would be unmounted by systemd, and `/etc/fstab` names it by them.

use super::{
    adopt_report::Row,
    commands,
    lv_name::{LvName, check_lv},
    names::{Tags, former_tag, name_tag, volume_lv},
    report::Lv,
};
use crate::{
    Adoptable, DriverError, Standing, VolumeId, VolumeInfo, in_use, name::Name, origin::Origin,
};

/// Where the machine looks for itself by name when it boots.
const NEEDED_TO_BOOT: [&str; 6] = ["/", "/boot", "/usr", "/var", "/etc", "/boot/efi"];

/// Which logical volumes are a pool's: those in its thin pool, or the plain ones.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) vg: &'a str,
    /// `None` for plain ones.
    pub(super) thin_pool: Option<&'a str>,
}

impl Place<'_> {
    fn has(&self, row: &Row) -> bool {
        match self.thin_pool {
            Some(pool) => row.pool() == Some(pool),
            None => row.pool().is_none(),
        }
    }

    /// Looks whether a logical volume can become a volume; changes nothing.
    pub(super) async fn look(&self, lv: &LvName) -> Result<Option<Adoptable>, DriverError> {
        if lv.vg() != self.vg {
            return Ok(None);
        }
        let all = commands::adoptable(self.vg).await?;
        let Some(row) = self.find(&all, lv.lv()) else {
            return Ok(no_volume(&all, lv.lv()));
        };
        let standing = match row.volume() {
            Some(id) => Standing::Ours(id),
            None => match self.refusal(row, &all) {
                Some(why) => Standing::Refused(why),
                None => Standing::Free,
            },
        };
        Ok(Some(Adoptable {
            size_bytes: row.size_bytes(),
            standing,
            foreign_tags: row.foreign_tags(),
        }))
    }

    /// By its name, else by the one that it had before it was ours.
    fn find<'r>(&self, all: &'r [Row], name: &str) -> Option<&'r Row> {
        let mut here = all.iter().filter(|row| self.has(row));
        let by_name = here.clone().find(|row| row.lv_name == name);
        by_name.or_else(|| {
            here.find(|row| row.volume().is_some() && row.marks().former.as_deref() == Some(name))
        })
    }

    /// Why it cannot become a volume.
    fn refusal(&self, row: &Row, all: &[Row]) -> Option<String> {
        if !row.our_tags().is_empty() {
            return Some("it is a snapshot or a helper of Stockpot's own".to_owned());
        }
        if let Some(why) = row.cannot_be_a_volume() {
            return Some(why);
        }
        // What is read through to is not in the pool, so what holds data could not be told.
        if let Some(origin) = row.origin()
            && !all
                .iter()
                .any(|o| o.lv_name == origin && o.pool() == row.pool())
        {
            return Some(format!(
                "it reads through to {origin}, which lies outside of its thin pool"
            ));
        }
        let depends = |other: &&Row| {
            other.origin() == Some(row.lv_name.as_str())
                && (other.is_classic_snapshot() || other.pool() != row.pool())
        };
        let depending: Vec<&str> = all.iter().filter(depends).map(|o| &*o.lv_name).collect();
        if !depending.is_empty() {
            return Some(format!(
                "{} depends on it and is not Stockpot's; remove that first",
                depending.join(", ")
            ));
        }
        row.device().and_then(use_that_stays)
    }

    /// Makes it a volume. The caller holds the volume group's lock.
    pub(super) async fn adopt(
        &self,
        id: &VolumeId,
        lv: &LvName,
        name: &str,
    ) -> Result<VolumeInfo, DriverError> {
        let all = commands::adoptable(self.vg).await?;
        let of_id = |all: &[Row]| {
            all.iter()
                .find(|r| r.volume().as_ref() == Some(id))
                .cloned()
        };
        let row = match of_id(&all) {
            Some(row) => row,
            None => {
                let row = self.find(&all, lv.lv()).ok_or_else(|| not_found(lv))?;
                self.tag(row, &all, id, lv, name).await?;
                let all = commands::adoptable(self.vg).await?;
                of_id(&all).ok_or_else(|| not_found(lv))?
            }
        };
        if !row.is_open() {
            rename_to_ours(self.vg, &row.lv_name, id).await;
        }
        Ok(VolumeInfo {
            id: id.clone(),
            size_bytes: row.size_bytes(),
        })
    }

    async fn tag(
        &self,
        row: &Row,
        all: &[Row],
        id: &VolumeId,
        lv: &LvName,
        name: &str,
    ) -> Result<(), DriverError> {
        if let Some(other) = row.volume() {
            return Err(DriverError::AlreadyExists {
                what: format!("logical volume {lv}"),
                difference: format!("it is volume {other}"),
            });
        }
        if let Some(why) = self.refusal(row, all) {
            return Err(DriverError::InUse {
                what: format!("logical volume {lv}"),
                by: why,
            });
        }
        let tags = Tags::Volume {
            id: id.clone(),
            origin: Origin::Empty,
            made_bytes: row.size_bytes(),
        };
        let mut tags = tags.to_lvm();
        tags.extend([former_tag(&row.lv_name), name_tag(name)]);
        let tagged = commands::add_tags(self.vg, &row.lv_name, &tags).await;
        let Err(error) = tagged else { return Ok(()) };
        // What counts is whether it was done: LVM may fail after it did its work.
        let after = commands::adoptable(self.vg).await?;
        match after.iter().any(|row| row.volume().as_ref() == Some(id)) {
            true => Ok(()),
            false => Err(error),
        }
    }

    /// Lets a volume go. The caller holds the volume group's lock.
    pub(super) async fn release(
        &self,
        id: &VolumeId,
        lv_name: Option<&str>,
    ) -> Result<Option<LvName>, DriverError> {
        if let Some(name) = lv_name {
            check_lv(name)?;
        }
        let all = commands::adoptable(self.vg).await?;
        let ours = |row: &&Row| self.has(row) && row.volume().as_ref() == Some(id);
        let Some(row) = all.iter().find(ours) else {
            return Ok(None);
        };
        refuse_held(row, &all, id)?;
        let marks = row.marks();
        let name = lv_name.or(marks.former.as_deref());
        let name = name.unwrap_or(&row.lv_name).to_owned();
        if name != row.lv_name {
            if all.iter().any(|other| other.lv_name == name) {
                return Err(DriverError::AlreadyExists {
                    what: format!("logical volume {}/{name}", self.vg),
                    difference: format!("it is another one; give volume {id} another name"),
                });
            }
            commands::rename(self.vg, &row.lv_name, &name).await?;
        }
        let gone = commands::let_go(self.vg, &name, &row.our_tags()).await;
        if let Err(error) = gone {
            let after = commands::adoptable(self.vg).await?;
            if after.iter().any(|row| ours(&row)) {
                return Err(error);
            }
        }
        LvName::new(self.vg, &name).map(Some)
    }
}

/// Refuses to let a volume go that something of ours depends on.
fn refuse_held(row: &Row, all: &[Row], id: &VolumeId) -> Result<(), DriverError> {
    let in_use = |by: String| DriverError::InUse {
        what: Name::Volume(id.clone()).to_string(),
        by,
    };
    if row.marks().creating {
        return Err(in_use("the call that makes it".to_owned()));
    }
    for other in all {
        if let Some(Tags::Snapshot {
            id: cut, volume, ..
        }) = other.tags()
            && volume == *id
        {
            return Err(in_use(format!("snapshot {cut}: delete it first")));
        }
        if other.marks().helps.as_ref() == Some(id) {
            return Err(in_use("a call that copies or grows it".to_owned()));
        }
    }
    Ok(())
}

/// Gives a volume that was adopted while it was open the name that ours have, if nobody has it open now; whether it did.
pub(super) async fn take_name(vg: &str, lv: &Lv, id: &VolumeId) -> bool {
    if lv.open || lv.marks.former.is_none() || lv.name == volume_lv(id) {
        return false;
    }
    rename_to_ours(vg, &lv.name, id).await
}

/// The volume is found by its tags, whatever it is called: a name that cannot be had is no failure.
async fn rename_to_ours(vg: &str, name: &str, id: &VolumeId) -> bool {
    let own = volume_lv(id);
    if name == own {
        return false;
    }
    match commands::rename(vg, name, &own).await {
        Ok(()) => true,
        Err(error) => {
            tracing::warn!(vg, lv = name, volume_id = %id, %error, "it keeps its name for now");
            false
        }
    }
}

/// What would not find it any more under another name.
fn use_that_stays(device: in_use::Number) -> Option<String> {
    let mounts = in_use::mounts(device);
    if let Some(point) = mounts.iter().find(|p| NEEDED_TO_BOOT.contains(&p.as_str())) {
        return Some(format!(
            "it is mounted at {point}: this host needs it to boot, by the name that it has"
        ));
    }
    if in_use::is_swap(device) {
        return Some("this host swaps to it".to_owned());
    }
    in_use::lvm_on_top(device).map(|name| {
        format!(
            "{name} of this host's LVM lies on it, and LVM does not look into volumes of Stockpot"
        )
    })
}

/// What is in no pool because it is no volume at all: saying what it is helps more than that no pool has it.
fn no_volume(all: &[Row], name: &str) -> Option<Adoptable> {
    let row = all.iter().find(|row| row.bare_name() == name)?;
    Some(Adoptable {
        size_bytes: row.size_bytes(),
        standing: Standing::Refused(row.is_something_else()?),
        foreign_tags: row.foreign_tags(),
    })
}

fn not_found(lv: &LvName) -> DriverError {
    DriverError::NotFound {
        what: format!("logical volume {lv}"),
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::adopt_report::tests::{classic_snapshot, cut_from, plain, tagged, thin, thin_pool},
        *,
    };

    const THICK: Place<'_> = Place {
        vg: "vg0",
        thin_pool: None,
    };
    const THIN: Place<'_> = Place {
        vg: "vg0",
        thin_pool: Some("pool"),
    };
    const OURS: &str = "stockpot.kind=volume,stockpot.id=a,stockpot.from=empty,stockpot.made_bytes=1,stockpot.former=old";

    #[test]
    fn each_pool_sees_its_own() {
        let all = [plain("data"), thin("db", "pool"), thin("other", "else")];
        let sees = |place: Place<'_>, name: &str| place.find(&all, name).is_some();
        assert!(sees(THICK, "data") && !sees(THICK, "db"));
        assert!(sees(THIN, "db") && !sees(THIN, "data") && !sees(THIN, "other"));
    }

    /// A host that has thin pools only: what is asked for is told, and not only that no pool has it.
    #[test]
    fn what_is_no_volume_is_told_though_no_pool_has_it() {
        let all = [
            plain("data"),
            classic_snapshot("snap", "data"),
            thin_pool("pool"),
            plain("[pool_tdata]"),
            thin("db", "else"),
        ];
        for (name, says) in [
            ("pool", "it is a pool"),
            ("snap", "it is a snapshot of data"),
            ("pool_tdata", "inner part"),
        ] {
            assert!(THIN.find(&all, name).is_none(), "{name}");
            let standing = no_volume(&all, name).unwrap().standing;
            assert!(
                matches!(&standing, Standing::Refused(why) if why.contains(says)),
                "{name}: {standing:?}"
            );
        }
        // Those could be volumes, in a pool that is not configured.
        for name in ["data", "db", "nothing"] {
            assert!(no_volume(&all, name).is_none(), "{name}");
        }
    }

    #[test]
    fn one_that_is_ours_is_found_by_both_names() {
        let ours = tagged(OURS, thin("stockpot.v.a", "pool"));
        let all = [ours.clone()];
        for name in ["stockpot.v.a", "old"] {
            let row = THIN.find(&all, name).unwrap();
            assert_eq!(row.volume().unwrap().as_str(), "a");
        }
        // A new one of that name comes first.
        let all = [ours, thin("old", "pool")];
        assert_eq!(THIN.find(&all, "old").unwrap().volume(), None);
    }

    #[test]
    fn what_others_depend_on_is_refused() {
        let alone = [plain("data")];
        assert_eq!(THICK.refusal(&alone[0], &alone), None);
        let all = [plain("data"), classic_snapshot("snap", "data")];
        let why = THICK.refusal(&all[0], &all).unwrap();
        assert!(why.contains("snap") && why.contains("remove"), "{why}");
        let all = [plain("data"), cut_from("data", thin("through", "pool"))];
        let why = THICK.refusal(&all[0], &all).unwrap();
        assert!(why.contains("through"), "{why}");
        let why = THIN.refusal(&all[1], &all).unwrap();
        assert!(why.contains("reads through to data"), "{why}");
        // Thin snapshots in the same pool stand on their own.
        let all = [thin("db", "pool"), cut_from("db", thin("copy", "pool"))];
        for row in &all {
            assert_eq!(THIN.refusal(row, &all), None);
        }
        let half = tagged("stockpot.helps=a", plain("stockpot.w.a"));
        assert!(THICK.refusal(&half, std::slice::from_ref(&half)).is_some());
    }

    #[test]
    fn a_volume_with_snapshots_is_not_let_go() {
        let ours = tagged(OURS, thin("stockpot.v.a", "pool"));
        let id = "a".parse().unwrap();
        refuse_held(&ours, std::slice::from_ref(&ours), &id).unwrap();
        let cut = "stockpot.kind=snapshot,stockpot.id=s,stockpot.source=a,stockpot.created_at_us=1";
        let cut = tagged(cut, thin("stockpot.s.s", "pool"));
        let error = refuse_held(&ours, &[ours.clone(), cut], &id).unwrap_err();
        assert!(error.to_string().contains("snapshot s"), "{error}");
        let helper = tagged("stockpot.helps=a", plain("stockpot.w.a"));
        assert!(refuse_held(&ours, &[ours.clone(), helper], &id).is_err());
        let making = tagged(&format!("{OURS},stockpot.state=creating"), plain("x"));
        assert!(refuse_held(&making, &[], &id).is_err());
    }
}

//! LVM's JSON report (`lvmreport(7)`), parsed into what the driver asks about.

use serde::Deserialize;

use super::{
    names::{Marks, Tags},
    replace,
};
use crate::{DriverError, in_use};

/// One look at a volume group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Report {
    pub(super) extent_bytes: u64,
    pub(super) size_bytes: u64,
    pub(super) free_bytes: u64,
    pub(super) metadata: MetadataArea,
    pub(super) lvs: Vec<Lv>,
}

/// Where LVM describes the volume group: on its disks, in an area of a fixed size. Two descriptions have to fit, the old one and
/// the new one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct MetadataArea {
    /// The whole area; 0 where LVM does not say.
    pub(super) size_bytes: u64,
    /// By how much one description may still grow.
    pub(super) free_bytes: u64,
}

impl MetadataArea {
    /// From here on nothing new is described: what is there must still be changed, grown and removed.
    const LIMIT: Share = Share::percent(85);

    fn used(self) -> Share {
        match self.size_bytes / 2 {
            0 => Share(0),
            most => {
                let used = most.saturating_sub(self.free_bytes);
                Share(used.saturating_mul(Share::WHOLE.0) / most)
            }
        }
    }

    /// Refuses one more logical volume where there is little room to describe it.
    pub(super) fn admit(self, vg: &str) -> Result<(), DriverError> {
        let used = self.used();
        if used < Self::LIMIT {
            return Ok(());
        }
        Err(DriverError::ResourceExhausted(format!(
            "the metadata area of volume group {vg} is {used} full ({} of {} bytes are free), the limit is {}: {}",
            self.free_bytes,
            self.size_bytes / 2,
            Self::LIMIT,
            what_to_do_about_metadata(vg)
        )))
    }
}

/// How a volume group gets room for more descriptions.
pub(super) fn what_to_do_about_metadata(vg: &str) -> String {
    format!(
        "delete volumes or snapshots, or give the group a larger area: `pvcreate --metadatasize 64m` on a new disk, `vgextend {vg}` \
         with it, then `pvchange --metadataignore y` on the disks with small ones"
    )
}

/// One visible logical volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Lv {
    pub(super) name: String,
    pub(super) size_bytes: u64,
    /// The thin pool it lies in.
    pub(super) pool: Option<String>,
    /// What it is, if it is ours.
    pub(super) tags: Option<Tags>,
    /// What else is noted on it.
    pub(super) marks: Marks,
    pub(super) active: bool,
    pub(super) open: bool,
    pub(super) suspended: bool,
    pub(super) read_only: bool,
    /// Its extents lie in stripes.
    pub(super) is_striped: bool,
    /// Major and minor number while it is active.
    pub(super) device: Option<(u32, u32)>,
    /// Its number in its thin pool.
    pub(super) thin_id: Option<u32>,
    /// What it was cut from, or reads through to; one that was removed is not named.
    pub(super) origin: Option<String>,
    /// For a classic snapshot: what it is of. Its own size is that of its room for changes.
    pub(super) cow: Option<Cow>,
    /// For a thin pool: whether new blocks are zeroed, and how full it is (unknown while it is not active).
    pub(super) thin_pool: Option<ThinPool>,
}

impl Lv {
    /// Who has its device open, in words; `None` if nobody has.
    pub(super) fn opened_by(&self) -> Option<String> {
        let holders = || self.device.map_or_else(|| "open".into(), in_use::holders);
        self.open.then(holders)
    }
}

/// What a report says of a classic snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cow {
    pub(super) origin: String,
    /// The size of what was cut.
    pub(super) content_bytes: u64,
    /// Whether its room for changes ran out; unknown while it is not active.
    pub(super) is_void: Option<bool>,
}

/// What a report says of a thin pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ThinPool {
    pub(super) zeroes: bool,
    pub(super) metadata_bytes: u64,
    pub(super) data_used: Option<Share>,
    pub(super) metadata_used: Option<Share>,
}

/// A share of a whole, in hundredths of a percent: LVM's two decimals, exactly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Share(pub(super) u64);

impl Share {
    pub(super) const WHOLE: Share = Share(10_000);

    pub(super) const fn percent(percent: u64) -> Self {
        Share(percent * 100)
    }

    fn parse(text: &str) -> Option<Self> {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
        let digits: String = fraction.chars().chain("00".chars()).take(2).collect();
        let whole: u64 = whole.parse().ok()?;
        Some(Share(
            whole.checked_mul(100)?.checked_add(digits.parse().ok()?)?,
        ))
    }
}

impl std::fmt::Display for Share {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{:02} %", self.0 / 100, self.0 % 100)
    }
}

/// The columns asked for; they match the fields of the rows below.
pub(super) const COLUMNS: [(&str, &str); 5] = [
    (
        "vg",
        "vg_name,vg_extent_size,vg_size,vg_free,vg_mda_size,vg_mda_free",
    ),
    (
        "lv",
        "lv_uuid,lv_name,lv_size,pool_lv,lv_tags,lv_active,lv_device_open,lv_suspended,lv_permissions,\
         lv_layout,lv_metadata_size,data_percent,metadata_percent,lv_kernel_major,lv_kernel_minor,\
         origin,origin_size,lv_role,lv_snapshot_invalid",
    ),
    ("seg", "lv_uuid,zero,thin_id"),
    ("pv", "pv_name"),
    ("pvseg", "pvseg_start"),
];

#[derive(Deserialize)]
struct Document {
    report: Vec<Section>,
}

#[derive(Deserialize)]
struct Section {
    #[serde(default)]
    vg: Vec<VgRow>,
    #[serde(default)]
    lv: Vec<LvRow>,
    #[serde(default)]
    seg: Vec<SegRow>,
}

#[derive(Deserialize)]
struct VgRow {
    vg_name: String,
    vg_extent_size: String,
    vg_size: String,
    vg_free: String,
    vg_mda_size: String,
    vg_mda_free: String,
}

#[derive(Deserialize)]
struct LvRow {
    lv_uuid: String,
    lv_name: String,
    lv_size: String,
    pool_lv: String,
    lv_tags: String,
    lv_active: String,
    lv_device_open: String,
    lv_suspended: String,
    lv_permissions: String,
    lv_layout: String,
    lv_metadata_size: String,
    data_percent: String,
    metadata_percent: String,
    lv_kernel_major: String,
    lv_kernel_minor: String,
    origin: String,
    origin_size: String,
    lv_role: String,
    lv_snapshot_invalid: String,
}

#[derive(Deserialize)]
struct SegRow {
    lv_uuid: String,
    zero: String,
    thin_id: String,
}

/// Parses a full report; `Ok(None)` if the volume group is not in it, `Err` with what could not be understood.
pub(super) fn parse(json: &[u8], vg: &str) -> Result<Option<Report>, String> {
    let document: Document = serde_json::from_slice(json).map_err(|error| error.to_string())?;
    let Some((row, section)) = document.report.iter().find_map(|section| {
        let row = section.vg.iter().find(|row| row.vg_name == vg)?;
        Some((row, section))
    }) else {
        return Ok(None);
    };
    let extent_bytes = number("vg_extent_size", &row.vg_extent_size)?;
    if extent_bytes == 0 {
        return Err("vg_extent_size is 0".into());
    }
    let lvs = section.lv.iter().map(|row| row.parse(&section.seg));
    let mut lvs: Vec<Lv> = lvs.collect::<Result<_, _>>()?;
    replace::tell_apart(&mut lvs);
    Ok(Some(Report {
        extent_bytes,
        size_bytes: number("vg_size", &row.vg_size)?,
        free_bytes: number("vg_free", &row.vg_free)?,
        metadata: MetadataArea {
            size_bytes: number("vg_mda_size", &row.vg_mda_size)?,
            free_bytes: number("vg_mda_free", &row.vg_mda_free)?,
        },
        lvs,
    }))
}

impl LvRow {
    fn parse(&self, segments: &[SegRow]) -> Result<Lv, String> {
        let thin_pool = self
            .lv_layout
            .split(',')
            .eq(["thin", "pool"])
            .then(|| ThinPool {
                zeroes: segments
                    .iter()
                    .any(|s| s.lv_uuid == self.lv_uuid && s.zero == "zero"),
                // Not known of other kinds, and of no use there.
                metadata_bytes: self.lv_metadata_size.parse().unwrap_or_default(),
                data_used: Share::parse(&self.data_percent),
                metadata_used: Share::parse(&self.metadata_percent),
            });
        let device = self
            .lv_kernel_major
            .parse()
            .ok()
            .zip(self.lv_kernel_minor.parse().ok());
        Ok(Lv {
            name: self.lv_name.clone(),
            size_bytes: number("lv_size", &self.lv_size)?,
            pool: Some(self.pool_lv.clone()).filter(|pool| !pool.is_empty()),
            tags: Tags::parse(&self.lv_tags),
            marks: Marks::parse(&self.lv_tags),
            active: self.lv_active == "active",
            open: self.lv_device_open == "open",
            suspended: self.lv_suspended == "suspended",
            read_only: self.lv_permissions.starts_with("read-only"),
            is_striped: self.lv_layout == "striped",
            device,
            thin_id: segments
                .iter()
                .filter(|segment| segment.lv_uuid == self.lv_uuid)
                .find_map(|segment| segment.thin_id.parse().ok()),
            origin: Some(self.origin.trim_matches(['[', ']']).to_owned())
                .filter(|origin| !origin.is_empty()),
            cow: self.cow()?,
            thin_pool,
        })
    }
}

impl Report {
    /// What `lvremove --yes` takes along with a logical volume: its classic snapshots, and thin volumes elsewhere that read through
    /// to it. Thin snapshots in its own pool stand on their own.
    pub(super) fn taken_along<'a>(&'a self, lv: &'a Lv) -> impl Iterator<Item = &'a Lv> {
        let is_of_it = move |other: &&Lv| {
            other.origin.as_deref() == Some(lv.name.as_str())
                && (other.cow.is_some() || other.pool.is_none() || other.pool != lv.pool)
        };
        self.lvs.iter().filter(is_of_it)
    }

    /// Refuses to remove a logical volume with which others would go; `what` is its name for the caller.
    pub(super) fn refuse_taking_along(&self, lv: &Lv, what: &str) -> Result<(), DriverError> {
        let others: Vec<_> = self.taken_along(lv).map(in_words).collect();
        if others.is_empty() {
            return Ok(());
        }
        Err(DriverError::InUse {
            what: what.to_owned(),
            by: format!("{}: delete those first", others.join(", ")),
        })
    }
}

/// A snapshot of ours by its id, everything else as LVM names it.
fn in_words(lv: &Lv) -> String {
    match &lv.tags {
        Some(Tags::Snapshot { id, .. }) => format!("snapshot {id}"),
        _ => format!("logical volume {}", lv.name),
    }
}

impl LvRow {
    fn cow(&self) -> Result<Option<Cow>, String> {
        if !self.lv_role.split(',').any(|role| role == "thicksnapshot") {
            return Ok(None);
        }
        Ok(Some(Cow {
            origin: self.origin.clone(),
            content_bytes: number("origin_size", &self.origin_size)?,
            is_void: match self.lv_snapshot_invalid.as_str() {
                "" => Some(false),
                "snapshot invalid" | "1" => Some(true),
                "unknown" | "-1" => None,
                other => return Err(format!("lv_snapshot_invalid is {other:?}")),
            },
        }))
    }
}

fn number(column: &str, text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("{column} is {text:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Recorded from LVM 2.03.16: a pool, a snapshot at rest, an active open volume, a classic snapshot.
    const RECORDED: &str = r#"{ "report": [ {
        "vg": [ {"vg_name":"vg0", "vg_extent_size":"4194304", "vg_size":"8585740288", "vg_free":"1598029824", "vg_mda_size":"1044480", "vg_mda_free":"520192"} ],
        "pv": [ {"pv_name":"/dev/ubda"} ],
        "lv": [
          {"lv_uuid":"euiTmz", "lv_name":"pool", "lv_size":"536870912", "pool_lv":"", "lv_tags":"", "lv_active":"active", "lv_device_open":"open", "lv_suspended":"", "lv_permissions":"writeable", "lv_layout":"thin,pool", "lv_metadata_size":"4194304", "data_percent":"0.05", "metadata_percent":"10.94", "lv_kernel_major":"254", "lv_kernel_minor":"2", "origin":"", "origin_size":"", "lv_role":"private", "lv_snapshot_invalid":"unknown"},
          {"lv_uuid":"2V5Xxy", "lv_name":"stockpot.s.b", "lv_size":"104857600", "pool_lv":"pool", "lv_tags":"stockpot.created_at_us=17,stockpot.id=b,stockpot.kind=snapshot,stockpot.source=a", "lv_active":"", "lv_device_open":"unknown", "lv_suspended":"unknown", "lv_permissions":"read-only", "lv_layout":"thin,sparse", "lv_metadata_size":"", "data_percent":"", "metadata_percent":"", "lv_kernel_major":"-1", "lv_kernel_minor":"-1", "origin":"stockpot.v.a", "origin_size":"104857600", "lv_role":"public,snapshot,thinsnapshot", "lv_snapshot_invalid":"unknown"},
          {"lv_uuid":"a3zYqy", "lv_name":"theirs", "lv_size":"209715200", "pool_lv":"pool", "lv_tags":"", "lv_active":"active", "lv_device_open":"open", "lv_suspended":"", "lv_permissions":"writeable", "lv_layout":"thin,sparse", "lv_metadata_size":"", "data_percent":"1.00", "metadata_percent":"", "lv_kernel_major":"254", "lv_kernel_minor":"4", "origin":"", "origin_size":"", "lv_role":"public", "lv_snapshot_invalid":"unknown"},
          {"lv_uuid":"q1Zx0p", "lv_name":"stockpot.s.c", "lv_size":"8388608", "pool_lv":"", "lv_tags":"stockpot.exported=yes", "lv_active":"active", "lv_device_open":"", "lv_suspended":"", "lv_permissions":"read-only", "lv_layout":"linear", "lv_metadata_size":"", "data_percent":"0.20", "metadata_percent":"", "lv_kernel_major":"254", "lv_kernel_minor":"7", "origin":"data", "origin_size":"67108864", "lv_role":"public,snapshot,thicksnapshot", "lv_snapshot_invalid":""}
        ],
        "pvseg": [ {"pvseg_start":"0"} ],
        "seg": [ {"lv_uuid":"2V5Xxy", "zero":"zero", "thin_id":"2"}, {"lv_uuid":"euiTmz", "zero":"zero", "thin_id":""} ]
    } ] }"#;

    #[test]
    fn a_recorded_report_is_understood() {
        let report = parse(RECORDED.as_bytes(), "vg0").unwrap().unwrap();
        assert_eq!(report.extent_bytes, 4 << 20);
        let [pool, snapshot, theirs, thick] = &report.lvs[..] else {
            panic!("{report:?}")
        };
        let thin = pool.thin_pool.as_ref().unwrap();
        assert!(thin.zeroes);
        assert_eq!(
            (thin.data_used, thin.metadata_used),
            (Some(Share(5)), Some(Share(1094)))
        );
        assert!(snapshot.read_only && !snapshot.active && !snapshot.open);
        assert_eq!((snapshot.device, snapshot.thin_id), (None, Some(2)));
        assert_eq!(pool.thin_id, None);
        assert!(matches!(
            snapshot.tags,
            Some(Tags::Snapshot {
                created_at_us: 17,
                ..
            })
        ));
        assert_eq!(theirs.tags, None);
        assert!(theirs.active && theirs.open && theirs.thin_pool.is_none());
        assert_eq!(theirs.device, Some((254, 4)));
        assert!(snapshot.cow.is_none() && theirs.cow.is_none());
        let cow = Cow {
            origin: "data".into(),
            content_bytes: 64 << 20,
            is_void: Some(false),
        };
        assert_eq!(thick.cow, Some(cow));
        assert_eq!(snapshot.origin.as_deref(), Some("stockpot.v.a"));
        assert_eq!(theirs.origin, None);
        report.metadata.admit("vg0").unwrap();
        assert!(thick.marks.exported && !thick.marks.creating);
    }

    #[test]
    fn what_is_not_a_report_is_an_error() {
        assert_eq!(parse(br#"{"report":[]}"#, "vg0"), Ok(None));
        assert_eq!(parse(RECORDED.as_bytes(), "vg1"), Ok(None));
        for bad in [
            String::new(),
            "[]".into(),
            RECORDED.replace("4194304", "4m"),
            RECORDED.replace("4194304", "0"),
            RECORDED.replace("104857600", ""),
            RECORDED.replace("lv_tags", "tags"),
        ] {
            assert!(parse(bad.as_bytes(), "vg0").is_err(), "{bad}");
        }
    }

    #[test]
    fn a_full_metadata_area_is_told_before_lvm_fails() {
        let area = |free_bytes| MetadataArea {
            size_bytes: 1 << 20,
            free_bytes,
        };
        let half = 1 << 19;
        for good in [half, half / 100 * 16, 1 << 30] {
            area(good).admit("vg0").unwrap();
        }
        // LVM does not say.
        MetadataArea::default().admit("vg0").unwrap();
        for full in [half / 100 * 15, 0] {
            let error = area(full).admit("vg0").unwrap_err();
            assert!(matches!(error, DriverError::ResourceExhausted(_)));
            let text = error.to_string();
            assert!(
                text.contains(&full.to_string()) && text.contains("--metadatasize"),
                "{text}"
            );
        }
    }

    #[test]
    fn what_lvm_would_remove_as_well_is_known() {
        let report = parse(RECORDED.as_bytes(), "vg0").unwrap().unwrap();
        let lv = |name: &str, pool: Option<&str>, origin: Option<&str>, is_cow: bool| Lv {
            name: name.into(),
            pool: pool.map(Into::into),
            origin: origin.map(Into::into),
            cow: is_cow.then(|| Cow {
                origin: origin.unwrap().into(),
                content_bytes: 1,
                is_void: None,
            }),
            tags: None,
            thin_pool: None,
            ..report.lvs[0].clone()
        };
        let report = Report {
            lvs: vec![
                lv("thin", Some("pool"), None, false),
                lv("thin-snapshot", Some("pool"), Some("thin"), false),
                lv("classic-of-thin", None, Some("thin"), true),
                lv("thick", None, None, false),
                lv("reads-through", Some("pool"), Some("thick"), false),
                lv("other", None, None, false),
            ],
            ..report
        };
        for (name, along) in [
            ("thin", vec!["classic-of-thin"]),
            ("thick", vec!["reads-through"]),
            ("other", vec![]),
            ("thin-snapshot", vec![]),
        ] {
            let lv = report.lvs.iter().find(|lv| lv.name == name).unwrap();
            let found: Vec<_> = report.taken_along(lv).map(|lv| &*lv.name).collect();
            assert_eq!(found, along, "{name}");
            let refused = report.refuse_taking_along(lv, name);
            assert_eq!(refused.is_err(), !along.is_empty(), "{name}");
        }
    }

    #[test]
    fn shares_are_exact() {
        for (text, share) in [("0.00", 0), ("100.00", 10000), ("10.9", 1090), ("7", 700)] {
            assert_eq!(Share::parse(text), Some(Share(share)), "{text}");
        }
        assert_eq!(Share::parse(""), None);
        assert_eq!(Share(1094).to_string(), "10.94 %");
    }
}

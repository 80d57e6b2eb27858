//! LVM's JSON as it comes: columns that are asked for, and the rows with their texts.

use serde::Deserialize;

use super::{Cow, Lv, MetadataArea, Report, Share, ThinPool};
use crate::lvm::{
    names::{Marks, Tags},
    replace,
};

/// The columns asked for; they match the fields of the rows below.
pub(in crate::lvm) const COLUMNS: [(&str, &str); 5] = [
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
pub(in crate::lvm) fn parse(json: &[u8], vg: &str) -> Result<Option<Report>, String> {
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

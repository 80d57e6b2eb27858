//! `lvs` on a single logical volume, or on the temporary ones of a group (`lvmreport(7)`).

use serde::Deserialize;

/// What must be known of a logical volume before it is snapshotted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LiveLv {
    pub(super) vg: String,
    pub(super) name: String,
    pub(super) size_bytes: u64,
    pub(super) extent_bytes: u64,
    pub(super) vg_free_bytes: u64,
    pub(super) thin: bool,
    pub(super) read_only: bool,
}

/// The columns asked for; they match [`Row`].
pub(super) const COLUMNS: &str = "vg_name,lv_name,lv_size,vg_extent_size,vg_free,lv_layout,lv_permissions,lv_tags,lv_snapshot_invalid";

#[derive(Debug, Deserialize)]
pub(super) struct Row {
    pub(super) vg_name: String,
    pub(super) lv_name: String,
    lv_size: String,
    vg_extent_size: String,
    vg_free: String,
    lv_layout: String,
    lv_permissions: String,
    pub(super) lv_tags: String,
    pub(super) lv_snapshot_invalid: String,
}

#[derive(Deserialize)]
struct Document {
    report: Vec<Section>,
}

#[derive(Deserialize)]
struct Section {
    #[serde(default)]
    lv: Vec<Row>,
}

/// The rows of a report.
pub(super) fn rows(json: &[u8]) -> Result<Vec<Row>, String> {
    let document: Document = serde_json::from_slice(json).map_err(|error| error.to_string())?;
    Ok(document
        .report
        .into_iter()
        .flat_map(|section| section.lv)
        .collect())
}

impl Row {
    pub(super) fn parse(self) -> Result<LiveLv, String> {
        let number = |column: &str, text: &str| {
            text.parse::<u64>()
                .map_err(|_| format!("{column} is {text:?}"))
        };
        let extent_bytes = number("vg_extent_size", &self.vg_extent_size)?;
        if extent_bytes == 0 {
            return Err("vg_extent_size is 0".into());
        }
        Ok(LiveLv {
            size_bytes: number("lv_size", &self.lv_size)?,
            extent_bytes,
            vg_free_bytes: number("vg_free", &self.vg_free)?,
            thin: self.lv_layout.split(',').any(|word| word == "thin"),
            read_only: self.lv_permissions.starts_with("read-only"),
            vg: self.vg_name,
            name: self.lv_name,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_read() {
        let json = br#"{"report":[{"lv":[{"vg_name":"vg0","lv_name":"data","lv_size":"104857600","vg_extent_size":"4194304",
            "vg_free":"838860800","lv_layout":"linear","lv_permissions":"writeable","lv_tags":"","lv_snapshot_invalid":"unknown"}]}],"log":[]}"#;
        let lv = rows(json).unwrap().remove(0).parse().unwrap();
        assert_eq!(
            (lv.vg.as_str(), lv.name.as_str(), lv.thin, lv.read_only),
            ("vg0", "data", false, false)
        );
        assert!(rows(b"{}").is_err());
        assert!(rows(br#"{"report":[]}"#).unwrap().is_empty());
    }
}

//! What `lvs --all` says of a volume group (`lvmreport(7)`), as far as it decides whether a logical volume can become ours.

use serde::Deserialize;

use super::names::{self, Marks, Tags};
use crate::VolumeId;

/// The columns asked for; they match [`Row`].
pub(super) const COLUMNS: &str = "lv_name,lv_size,lv_layout,lv_role,lv_tags,pool_lv,origin,lv_attr,lv_suspended,lv_device_open,\
    lv_kernel_major,lv_kernel_minor,lv_merging,lv_converting";

/// A logical volume, hidden or not.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Row {
    /// In brackets when it is hidden.
    pub(super) lv_name: String,
    lv_size: String,
    lv_layout: String,
    lv_role: String,
    lv_tags: String,
    pool_lv: String,
    origin: String,
    lv_attr: String,
    lv_suspended: String,
    lv_device_open: String,
    lv_kernel_major: String,
    lv_kernel_minor: String,
    lv_merging: String,
    lv_converting: String,
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
    let rows: Vec<Row> = document.report.into_iter().flat_map(|s| s.lv).collect();
    match rows.iter().find(|row| row.lv_size.parse::<u64>().is_err()) {
        Some(row) => Err(format!("lv_size of {} is {:?}", row.lv_name, row.lv_size)),
        None => Ok(rows),
    }
}

impl Row {
    pub(super) fn size_bytes(&self) -> u64 {
        self.lv_size.parse().unwrap_or_default()
    }

    /// What it is, if it is ours.
    pub(super) fn tags(&self) -> Option<Tags> {
        Tags::parse(&self.lv_tags)
    }

    pub(super) fn marks(&self) -> Marks {
        Marks::parse(&self.lv_tags)
    }

    /// The volume of ours that it is.
    pub(super) fn volume(&self) -> Option<VolumeId> {
        match self.tags()? {
            Tags::Volume { id, .. } => Some(id),
            Tags::Snapshot { .. } => None,
        }
    }

    /// All tags of ours on it.
    pub(super) fn our_tags(&self) -> Vec<String> {
        self.all_tags().filter(|tag| names::is_ours(tag)).collect()
    }

    /// Those of others.
    pub(super) fn foreign_tags(&self) -> Vec<String> {
        self.all_tags().filter(|tag| !names::is_ours(tag)).collect()
    }

    fn all_tags(&self) -> impl Iterator<Item = String> + '_ {
        let tags = self.lv_tags.split(',').filter(|tag| !tag.is_empty());
        tags.map(str::to_owned)
    }

    /// The thin pool it lies in.
    pub(super) fn pool(&self) -> Option<&str> {
        Some(bare(&self.pool_lv)).filter(|pool| !pool.is_empty())
    }

    /// What it was cut from, or reads through to.
    pub(super) fn origin(&self) -> Option<&str> {
        Some(bare(&self.origin)).filter(|origin| !origin.is_empty())
    }

    pub(super) fn is_open(&self) -> bool {
        self.lv_device_open == "open"
    }

    /// Major and minor number while it is active.
    pub(super) fn device(&self) -> Option<(u32, u32)> {
        let number = |text: &str| text.parse().ok();
        number(&self.lv_kernel_major).zip(number(&self.lv_kernel_minor))
    }

    pub(super) fn is_classic_snapshot(&self) -> bool {
        words(&self.lv_role).any(|role| role == "thicksnapshot")
    }

    /// Its name without the brackets of what is hidden.
    pub(super) fn bare_name(&self) -> &str {
        bare(&self.lv_name)
    }

    /// Why it cannot be a volume as it is now; `None` for what can.
    pub(super) fn cannot_be_a_volume(&self) -> Option<String> {
        if let Some(what) = self.is_something_else() {
            return Some(what);
        }
        let states = [&self.lv_merging, &self.lv_converting, &self.lv_suspended];
        if let Some(state) = states.into_iter().find(|state| is_set(state)) {
            return Some(format!("it is {state} now; try again when that is over"));
        }
        // The second letter, as in lvs(8). `lv_permissions` does not know it of what is not active.
        if self.lv_attr.chars().nth(1) != Some('w') {
            return Some(format!(
                "it is read-only ({}); `lvchange --permission rw` makes it writable",
                self.lv_attr
            ));
        }
        None
    }

    /// What it is made of, by LVM's words, where that is not what volumes are made of.
    pub(super) fn is_something_else(&self) -> Option<String> {
        let layout = &self.lv_layout;
        // Before the next one: to LVM a pool is private, too.
        if words(layout).any(|word| word == "pool") {
            return Some(format!(
                "it is a pool ({layout}); name it in a pool of the configuration instead"
            ));
        }
        if self.lv_name.starts_with('[') || words(&self.lv_role).any(|role| role == "private") {
            return Some("it is an inner part of something else in LVM".to_owned());
        }
        if self.is_classic_snapshot() {
            return Some(format!(
                "it is a snapshot of {}; merge it, or copy what is in it into a volume",
                self.origin().unwrap_or("another one")
            ));
        }
        let plain = ["linear", "striped", "thin", "sparse"];
        if let Some(word) = words(layout).find(|word| !plain.contains(word)) {
            return Some(format!(
                "its layout is {layout}, and volumes here are thin, linear or striped; `lvconvert` can make it that where it is {word}"
            ));
        }
        None
    }
}

/// Of what is not active LVM does not know whether it is suspended.
fn is_set(state: &str) -> bool {
    !state.is_empty() && state != "unknown"
}

fn words(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').filter(|word| !word.is_empty())
}

fn bare(name: &str) -> &str {
    name.trim_matches(['[', ']'])
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A plain thick volume of somebody else's.
    pub(in crate::lvm) fn plain(name: &str) -> Row {
        Row {
            lv_name: name.to_owned(),
            lv_size: "8388608".to_owned(),
            lv_layout: "linear".to_owned(),
            lv_role: "public".to_owned(),
            lv_tags: String::new(),
            pool_lv: String::new(),
            origin: String::new(),
            lv_attr: "-wi-------".to_owned(),
            lv_suspended: "unknown".to_owned(),
            lv_device_open: "unknown".to_owned(),
            lv_kernel_major: "-1".to_owned(),
            lv_kernel_minor: "-1".to_owned(),
            lv_merging: String::new(),
            lv_converting: String::new(),
        }
    }

    /// A thin one.
    pub(in crate::lvm) fn thin(name: &str, pool: &str) -> Row {
        Row {
            lv_layout: "thin,sparse".to_owned(),
            pool_lv: pool.to_owned(),
            ..plain(name)
        }
    }

    pub(in crate::lvm) fn thin_pool(name: &str) -> Row {
        Row {
            lv_layout: "thin,pool".to_owned(),
            lv_role: "private".to_owned(),
            ..plain(name)
        }
    }

    pub(in crate::lvm) fn cut_from(origin: &str, row: Row) -> Row {
        Row {
            origin: origin.to_owned(),
            ..row
        }
    }

    pub(in crate::lvm) fn classic_snapshot(name: &str, origin: &str) -> Row {
        Row {
            lv_role: "public,snapshot,thicksnapshot".to_owned(),
            ..cut_from(origin, plain(name))
        }
    }

    pub(in crate::lvm) fn tagged(tags: &str, row: Row) -> Row {
        Row {
            lv_tags: tags.to_owned(),
            ..row
        }
    }

    #[test]
    fn a_report_is_read() {
        let json = br#"{"report":[{"lv":[
          {"lv_name":"data","lv_size":"4194304","lv_layout":"linear","lv_role":"public","lv_tags":"site.a,stockpot.x=1","pool_lv":"",
           "origin":"","lv_attr":"-wi-ao----","lv_suspended":"","lv_device_open":"open","lv_kernel_major":"254",
           "lv_kernel_minor":"3","lv_merging":"","lv_converting":""},
          {"lv_name":"[lvol0_pmspare]","lv_size":"4194304","lv_layout":"linear","lv_role":"private,pool,spare","lv_tags":"","pool_lv":"",
           "origin":"","lv_attr":"ewi-------","lv_suspended":"unknown","lv_device_open":"unknown","lv_kernel_major":"-1",
           "lv_kernel_minor":"-1","lv_merging":"","lv_converting":""}]}],"log":[]}"#;
        let rows = rows(json).unwrap();
        assert!(rows[0].is_open() && rows[0].device() == Some((254, 3)));
        assert_eq!(rows[0].size_bytes(), 4 << 20);
        assert_eq!(rows[0].foreign_tags(), ["site.a"]);
        assert_eq!(rows[0].our_tags(), ["stockpot.x=1"]);
        assert_eq!(rows[0].cannot_be_a_volume(), None);
        assert_eq!(rows[1].device(), None);
        assert!(rows[1].cannot_be_a_volume().unwrap().contains("inner"));
        assert!(
            super::rows(b"{}").is_err() && super::rows(br#"{"report":[]}"#).unwrap().is_empty()
        );
        let bad = String::from_utf8_lossy(json).replacen("4194304", "4m", 1);
        assert!(super::rows(bad.as_bytes()).is_err());
    }

    #[test]
    fn what_is_no_volume_says_what_it_is() {
        let with = |layout: &str| Row {
            lv_layout: layout.to_owned(),
            ..plain("x")
        };
        for (row, says) in [
            (with("thin,pool"), "pool"),
            (with("raid,raid1"), "raid"),
            (with("mirror"), "mirror"),
            (with("cache"), "cache"),
            (with("writecache"), "writecache"),
            (classic_snapshot("s", "data"), "snapshot of data"),
        ] {
            let why = row.cannot_be_a_volume().unwrap();
            assert!(why.contains(says), "{why}");
        }
        let read_only = Row {
            lv_attr: "-ri-------".to_owned(),
            ..plain("x")
        };
        assert!(
            read_only
                .cannot_be_a_volume()
                .unwrap()
                .contains("--permission")
        );
        let merging = Row {
            lv_merging: "merging".to_owned(),
            ..plain("x")
        };
        assert!(merging.cannot_be_a_volume().unwrap().contains("merging"));
        for row in [
            with("striped"),
            thin("x", "pool"),
            cut_from("y", thin("x", "pool")),
        ] {
            assert_eq!(row.cannot_be_a_volume(), None);
        }
    }
}

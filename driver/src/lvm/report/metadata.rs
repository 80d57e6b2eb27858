//! The room in which LVM describes a volume group.

use super::Share;
use crate::DriverError;

/// Where LVM describes the volume group: on its disks, in an area of a fixed size. Two descriptions have to fit, the old one and
/// the new one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::lvm) struct MetadataArea {
    /// The whole area; 0 where LVM does not say.
    pub(in crate::lvm) size_bytes: u64,
    /// By how much one description may still grow.
    pub(in crate::lvm) free_bytes: u64,
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
    pub(in crate::lvm) fn admit(self, vg: &str) -> Result<(), DriverError> {
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
pub(in crate::lvm) fn what_to_do_about_metadata(vg: &str) -> String {
    format!(
        "delete volumes or snapshots, or give the group a larger area: `pvcreate --metadatasize 64m` on a new disk, `vgextend {vg}` \
         with it, then `pvchange --metadataignore y` on the disks with small ones"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

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
}

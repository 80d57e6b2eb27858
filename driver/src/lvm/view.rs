//! What one report says of our pool, and what may be added to it.

use super::{
    guard,
    ours::{SnapshotView, VolumeView},
    report::{Lv, Report, Share, ThinPool},
    thin::LvmThinConfig,
};
use crate::{Capacity, DriverError, SnapshotId, VolumeId, name::Name, sizes::Bytes};

/// A volume group as it was a moment ago, seen from one pool.
#[derive(Debug)]
pub(super) struct View {
    report: Report,
    pool: Lv,
    thin: ThinPool,
}

impl View {
    /// Finds the pool in a report.
    pub(super) fn new(config: &LvmThinConfig, report: Report) -> Result<Self, DriverError> {
        let (vg, name) = (&config.vg, &config.pool);
        let Some(pool) = report.lvs.iter().find(|lv| lv.name == *name).cloned() else {
            return Err(DriverError::Host(format!(
                "thin pool {vg}/{name} does not exist; make it, let it be made (`poolSizeBytes`), or name another one"
            )));
        };
        let Some(thin) = pool.thin_pool.clone() else {
            return Err(DriverError::Host(format!(
                "{vg}/{name} is not a thin pool; name another pool, or remove it"
            )));
        };
        Ok(Self { report, pool, thin })
    }

    /// Whether the pool tells how full it is, which it does only while it is active.
    pub(super) fn knows_usage(&self) -> bool {
        self.thin.data_used.is_some() && self.thin.metadata_used.is_some()
    }

    /// Whether a block reads as zeroes before it is written, also where another volume used it.
    pub(super) fn zeroes(&self) -> bool {
        self.thin.zeroes
    }

    pub(super) fn volumes(&self) -> impl Iterator<Item = VolumeView<'_>> {
        self.in_pool().filter_map(VolumeView::of)
    }

    pub(super) fn snapshots(&self) -> impl Iterator<Item = SnapshotView<'_>> {
        self.in_pool().filter_map(SnapshotView::of)
    }

    pub(super) fn find(&self, name: &Name) -> Option<&Lv> {
        match name {
            Name::Volume(id) => self.volume(id).map(|volume| volume.lv),
            Name::Snapshot(id) => self.snapshot(id).map(|snapshot| snapshot.lv),
        }
    }

    pub(super) fn volume(&self, id: &VolumeId) -> Option<VolumeView<'_>> {
        self.volumes().find(|volume| volume.id == id)
    }

    pub(super) fn snapshot(&self, id: &SnapshotId) -> Option<SnapshotView<'_>> {
        self.snapshots().find(|snapshot| snapshot.id == id)
    }

    /// Room in the volume group, and what it is handed out in, in bytes.
    pub(super) fn free(&self) -> (u64, u64) {
        (self.report.free_bytes, self.report.extent_bytes)
    }

    /// Sizes of the pool's data and metadata, in bytes.
    pub(super) fn sizes(&self) -> (u64, u64) {
        (self.pool.size_bytes, self.thin.metadata_bytes)
    }

    /// The logical volume of this name, whoever made it.
    pub(super) fn any(&self, name: &str) -> Option<&Lv> {
        self.report.lvs.iter().find(|lv| lv.name == name)
    }

    /// The pool and what is ours in it, where its I/O is held up; nothing is, unless an LVM command died half-way.
    pub(super) fn suspended(&self) -> impl Iterator<Item = &Lv> {
        let ours = self.in_pool().filter(|lv| lv.tags.is_some());
        std::iter::once(&self.pool)
            .chain(ours)
            .filter(|lv| lv.suspended)
    }

    fn in_pool(&self) -> impl Iterator<Item = &Lv> {
        let in_pool = |lv: &&Lv| lv.pool.as_deref() == Some(self.pool.name.as_str());
        self.report.lvs.iter().filter(in_pool)
    }

    /// The size that a volume gets: whole extents.
    pub(super) fn round_up(&self, size_bytes: u64) -> Result<u64, DriverError> {
        if size_bytes == 0 {
            return Err(DriverError::InvalidArgument(
                "a volume has at least one byte".into(),
            ));
        }
        size_bytes
            .checked_next_multiple_of(self.report.extent_bytes)
            .ok_or_else(|| DriverError::OutOfRange(format!("{size_bytes} bytes are too many")))
    }

    /// Bytes that may be promised to volumes in all.
    fn promise_limit_bytes(&self, config: &LvmThinConfig) -> u64 {
        self.pool
            .size_bytes
            .saturating_mul(config.overcommit_factor)
    }

    fn promised_bytes(&self) -> u64 {
        self.volumes()
            .fold(0, |sum: u64, v| sum.saturating_add(v.lv.size_bytes))
    }

    /// Refuses one more logical volume where LVM has little room to describe it.
    pub(super) fn admit_another(&self, config: &LvmThinConfig) -> Result<(), DriverError> {
        self.report.metadata.admit(&config.vg)
    }

    /// All that the report says.
    pub(super) fn report(&self) -> &Report {
        &self.report
    }

    /// Refuses to remove what others would go with.
    pub(super) fn refuse_taking_along(&self, lv: &Lv, what: &Name) -> Result<(), DriverError> {
        self.report.refuse_taking_along(lv, &what.to_string())
    }

    /// Refuses what the pool cannot take: `more_bytes` is what volumes are promised in addition (0 for a snapshot).
    pub(super) fn admit(&self, config: &LvmThinConfig, more_bytes: u64) -> Result<(), DriverError> {
        let pool = format!("thin pool {}/{}", config.vg, config.pool);
        let size = self.pool.size_bytes;
        let limit = self.promise_limit_bytes(config);
        if more_bytes > limit {
            return Err(DriverError::OutOfRange(format!(
                "{} are more than {pool} of {} can ever promise: {}",
                Bytes(more_bytes),
                Bytes(size),
                Bytes(limit)
            )));
        }
        for (part, used, percent) in [
            ("data", self.thin.data_used, config.data_limit_percent),
            (
                "metadata",
                self.thin.metadata_used,
                config.metadata_limit_percent,
            ),
        ] {
            let (used, limit) = (used.unwrap_or(Share::WHOLE), Share::percent(percent));
            if used >= limit {
                return Err(DriverError::ResourceExhausted(format!(
                    "{pool} of {size} bytes: {part} is {used} full, the limit is {limit}; \
                     free bytes in the volume group: {}; {}",
                    self.report.free_bytes,
                    guard::what_to_do(&config.vg, &config.pool)
                )));
            }
        }
        let promised = self.promised_bytes();
        if promised.saturating_add(more_bytes) > limit {
            return Err(DriverError::ResourceExhausted(format!(
                "{pool} of {} has promised {promised} of {} to volumes, {} more do not fit",
                Bytes(size),
                Bytes(limit),
                Bytes(more_bytes)
            )));
        }
        Ok(())
    }

    pub(super) fn capacity(&self, config: &LvmThinConfig) -> Capacity {
        let left = |used: Option<Share>, percent| {
            let limit = Share::percent(percent).0;
            limit.saturating_sub(used.unwrap_or(Share::WHOLE).0)
        };
        let data_left = left(self.thin.data_used, config.data_limit_percent);
        let full = left(self.thin.metadata_used, config.metadata_limit_percent) == 0;
        // Divided first: the product of a large pool would not fit. The error is below 10,000 bytes.
        let available = self.pool.size_bytes / Share::WHOLE.0 * data_left;
        let unpromised = self
            .promise_limit_bytes(config)
            .saturating_sub(self.promised_bytes());
        let extent = self.report.extent_bytes;
        Capacity {
            available_bytes: if full { 0 } else { available },
            total_bytes: self.pool.size_bytes,
            maximum_volume_bytes: unpromised / extent * extent,
            granularity_bytes: extent,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{names::Tags, report::MetadataArea},
        *,
    };
    use crate::origin::Origin;

    const EXTENT: u64 = 4 << 20;

    fn lv(name: &str, size_bytes: u64, pool: Option<&str>, tags: Option<Tags>) -> Lv {
        Lv {
            name: name.into(),
            size_bytes,
            pool: pool.map(str::to_owned),
            tags,
            marks: Default::default(),
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

    fn view(data: u64, metadata: u64) -> (LvmThinConfig, View) {
        let mut config = LvmThinConfig::new("vg0", "pool");
        config.overcommit_factor = 2;
        let mut pool = lv("pool", 100 * EXTENT, None, None);
        pool.thin_pool = Some(ThinPool {
            zeroes: true,
            metadata_bytes: EXTENT,
            data_used: Some(Share(data)),
            metadata_used: Some(Share(metadata)),
        });
        let tags = |id: &str| Tags::Volume {
            id: id.parse().unwrap(),
            origin: Origin::Empty,
            made_bytes: 1,
        };
        let lvs = vec![
            lv("stockpot.v.a", 50 * EXTENT, Some("pool"), Some(tags("a"))),
            lv("stockpot.v.b", 50 * EXTENT, Some("other"), Some(tags("b"))),
            lv("theirs", 50 * EXTENT, Some("pool"), None),
            pool,
        ];
        let report = Report {
            extent_bytes: EXTENT,
            size_bytes: 200 * EXTENT,
            free_bytes: 7,
            metadata: MetadataArea::default(),
            lvs,
        };
        let view = View::new(&config, report).unwrap();
        (config, view)
    }

    #[test]
    fn only_our_volumes_in_our_pool_are_seen() {
        let (_, view) = view(0, 0);
        let ids: Vec<_> = view.volumes().map(|v| v.id.as_str()).collect();
        assert_eq!(ids, ["a"]);
        assert!(view.any("theirs").is_some() && view.any("none").is_none());
    }

    #[test]
    fn sizes_are_whole_extents() {
        let (_, view) = view(0, 0);
        assert_eq!(view.round_up(1).unwrap(), EXTENT);
        assert_eq!(view.round_up(EXTENT).unwrap(), EXTENT);
        assert!(matches!(
            view.round_up(0),
            Err(DriverError::InvalidArgument(_))
        ));
        assert!(matches!(
            view.round_up(u64::MAX),
            Err(DriverError::OutOfRange(_))
        ));
    }

    #[test]
    fn a_pool_admits_until_a_limit() {
        let (config, ok) = view(9_499, 0);
        ok.admit(&config, 150 * EXTENT).unwrap();
        let error = ok.admit(&config, 151 * EXTENT).unwrap_err();
        assert!(
            matches!(&error, DriverError::ResourceExhausted(t) if t.contains("209715200")),
            "{error}"
        );
        let error = ok.admit(&config, 201 * EXTENT).unwrap_err();
        assert!(matches!(error, DriverError::OutOfRange(_)), "{error}");
        for (config, full) in [view(9_500, 0), view(0, 9_000)] {
            let error = full.admit(&config, 0).unwrap_err();
            assert!(
                matches!(&error, DriverError::ResourceExhausted(t) if t.contains(".00 % full")),
                "{error}"
            );
        }
    }

    #[test]
    fn capacity_counts_what_is_used_and_promised() {
        let (config, half) = view(4_500, 0);
        let capacity = half.capacity(&config);
        assert_eq!(capacity.total_bytes, 100 * EXTENT);
        assert!(capacity.available_bytes.abs_diff(50 * EXTENT) < 10_000);
        assert_eq!(capacity.maximum_volume_bytes, 150 * EXTENT);
        let (config, full) = view(0, 9_900);
        assert_eq!(full.capacity(&config).available_bytes, 0);
    }
}

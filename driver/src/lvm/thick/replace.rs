//! A volume that takes another one's place. One with snapshots keeps its own: LVM would take them along.

use super::{super::replace, group::Group, view::View};
use crate::{DriverError, VolumeId, VolumeInfo, name::Name};

impl Group {
    pub(super) async fn check_replace(&self, id: &VolumeId) -> Result<(), DriverError> {
        let name = Name::Volume(id.clone());
        let view = self.look().await?;
        let volume = view.volume(id).ok_or_else(|| name.not_found())?;
        view.0.refuse_taking_along(volume.lv, &name.to_string())
    }

    pub(super) async fn replace_volume(
        &self,
        id: VolumeId,
        with: VolumeId,
    ) -> Result<VolumeInfo, DriverError> {
        let _turn = self.turns.take(&id).await;
        let _lock = self.lock().await?;
        let (name, other) = (Name::Volume(id.clone()), Name::Volume(with.clone()));
        // What an earlier call left, also one of these two.
        let view = self.look().await?;
        let view = self.finish_replacements(view, Some(&id)).await?;
        let old = view.volume(&id).ok_or_else(|| name.not_found())?;
        if old.lv.marks.replaced.as_ref() == Some(&with) {
            return Ok(old.info());
        }
        let new = view.volume(&with).ok_or_else(|| other.not_found())?;
        replace::check(&view.0, (old.lv, &id), (new.lv, &with))?;
        for name in [&name, &other] {
            // It may stay active for a moment: somebody may have it open who is let go on.
            if let Some(lv) = self.unexport(name).await? {
                let view = self.look().await?;
                let active = view.any(&lv.name).filter(|lv| lv.active);
                if let Some(lv) = active {
                    self.deactivate(lv).await?;
                }
            }
        }
        replace::step(self.vg(), old.lv, new.lv, &id).await?;
        let view = self.look().await?;
        let view = self.finish_replacements(view, Some(&id)).await?;
        Ok(view.volume(&id).ok_or_else(|| name.not_found())?.info())
    }

    /// What is left to do where a volume has taken another one's place; of all volumes, or of one. Under the lock.
    pub(super) async fn finish_replacements(
        &self,
        view: View,
        id: Option<&VolumeId>,
    ) -> Result<View, DriverError> {
        let of = replace::Of {
            pool: None,
            volume: id,
        };
        if !replace::is_left(&view.0, of) {
            return Ok(view);
        }
        replace::finish(self.vg(), &view.0, of).await?;
        self.look().await
    }
}

//! What is left over and costs little: half-open multipart uploads, lists of killed prunes, marks of packs that are gone.

use std::collections::HashSet;

use super::{PruneError, packs::RunKey, round::Rounds, uploads::age_s};
use crate::{
    RepositoryError,
    format::{
        ids::{CONDEMNED_PREFIX, MARKS_PREFIX},
        protocol::Mark,
        record::Record as _,
    },
    repository::{list_keys, read_object},
    store::{Multipart, ObjectMeta, StoreError},
};

/// Each of them was tried for some time: with more, the store is left in peace until the next prune.
const WITHOUT_ANSWER_MAX: u32 = 3;

/// The marks that were there before packs were listed: what they name is in the listing, or gone.
pub(super) async fn marks(
    repository: &crate::Repository,
) -> Result<Vec<ObjectMeta>, RepositoryError> {
    list_keys(&**repository.store(), MARKS_PREFIX).await
}

impl Rounds {
    /// Aborts multipart uploads that were open before intents were listed, and whose attempt had none: an attempt has its
    /// intent before its first part, until it can commit no more. One that cannot be aborted is counted, and stops nothing.
    pub(super) async fn abort_multiparts(
        &mut self,
        open: &[(RunKey, Multipart)],
    ) -> Result<(), PruneError> {
        let living: HashSet<String> = self.living.iter().map(name).collect();
        let store = self.survey.repository.store().clone();
        let mut without_answer = 0;
        for (run, upload) in open {
            self.survey.check_cancelled()?;
            if living.contains(&name(run)) {
                continue;
            }
            if without_answer >= WITHOUT_ANSWER_MAX {
                self.report.held_multiparts += 1;
                continue;
            }
            tracing::info!(
                key = upload.key,
                "aborting a multipart upload whose attempt has ended"
            );
            let Err(error) = store.multipart_abort(upload).await else {
                self.report.aborted_multiparts += 1;
                continue;
            };
            if matches!(error, StoreError::Unavailable { .. }) {
                without_answer += 1;
            }
            let why = crate::snapshots::chain(&error);
            tracing::warn!(
                key = upload.key,
                error = why,
                "a multipart upload cannot be aborted; a later prune tries again"
            );
            self.report.held_multiparts += 1;
            self.report.multiparts_because.get_or_insert(why);
        }
        Ok(())
    }

    /// Removes lists that killed prunes left. One that is only thought dead stops at its check.
    pub(super) async fn remove_stale_lists(&mut self) -> Result<(), PruneError> {
        let store = self.survey.repository.store().clone();
        let limit = i64::try_from(self.settings.stale_after.as_secs()).unwrap_or(i64::MAX);
        for meta in list_keys(&*store, CONDEMNED_PREFIX).await? {
            if age_s(self.now_s, meta.modified_at_s) >= limit {
                tracing::info!(
                    object = meta.key,
                    "removing the list of a prune that was killed"
                );
                store.delete(&meta.key).await?;
                self.report.removed_lists += 1;
            }
        }
        Ok(())
    }

    /// Removes marks all of whose packs are gone and needed by nothing. One of a pack that was lost stays: it is what makes the
    /// next backup store again what was in it.
    pub(super) async fn remove_void_marks(
        &mut self,
        marks: Vec<ObjectMeta>,
    ) -> Result<(), PruneError> {
        let store = self.survey.repository.store().clone();
        let sealer = self.survey.repository.sealer()?.clone();
        let mut told = HashSet::new();
        for meta in marks {
            let Ok(Some(object)) = read_object(&*store, &meta.key, Mark::OBJECT_MAX).await else {
                continue;
            };
            // One that cannot be read is a matter for verify.
            let Ok((mark, _)) = sealer.open_record::<Mark>(&meta.key, &object) else {
                continue;
            };
            let is_void = {
                let mut table = self.survey.table();
                let mut is_void = true;
                for bad in &mark.bad {
                    let is_lost = table.is_reached_unlisted(&bad.pack);
                    // A mark names chunks, and a pack has thousands.
                    if is_lost && told.insert(bad.pack.clone()) {
                        tracing::warn!(
                            pack = %bad.pack,
                            "a pack that snapshots need is not in the bucket; the next backup of the volume stores again what was in it, \
                             verify names the snapshots"
                        );
                    }
                    is_void &= !is_lost && !table.has(&bad.pack);
                }
                is_void
            };
            if is_void {
                store.delete(&meta.key).await?;
                self.report.removed_marks += 1;
            }
        }
        Ok(())
    }
}

fn name(run: &RunKey) -> String {
    format!("{}/{}/{}", run.volume, run.snapshot, run.run)
}

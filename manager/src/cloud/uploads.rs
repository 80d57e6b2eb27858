//! Multipart uploads that are open in a repository.

use stockpot_repository::{Repository, format::ids::PACKS_PREFIX};

use super::{ANSWER_WITHIN, within};
use crate::ManagerError;

/// The keys of those of packs.
pub(crate) async fn open_uploads(repository: &Repository) -> Result<Vec<String>, ManagerError> {
    let asking = async {
        let open = repository.store().multipart_list(PACKS_PREFIX).await?;
        Ok(open.into_iter().map(|upload| upload.key).collect())
    };
    within(&repository.location(), ANSWER_WITHIN, asking).await
}

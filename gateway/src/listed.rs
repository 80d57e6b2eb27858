//! Everything of one kind that the manager has: all pages of its lists. A page ends where a message would be too large, so whoever reads
//! the first one alone does not see what was made last.

use stockpot_proto::stockpot::v1 as api;
use tonic::Status;

use crate::manager::Manager;

/// Every volume.
pub(crate) async fn volumes(manager: &Manager) -> Result<Vec<api::Volume>, Status> {
    all(|starting_token| {
        let mut client = manager.manager();
        async move {
            let request = api::ListVolumesRequest {
                max_entries: 0,
                starting_token,
            };
            let page = client.list_volumes(request).await?.into_inner();
            Ok((page.volumes, page.next_token))
        }
    })
    .await
}

/// Every backup; of one volume if that is named.
pub(crate) async fn backups(manager: &Manager, volume: &str) -> Result<Vec<api::Backup>, Status> {
    all(|starting_token| {
        let mut client = manager.backups();
        async move {
            let request = api::ListBackupsRequest {
                max_entries: 0,
                starting_token,
                volume: volume.to_owned(),
            };
            let page = client.list_backups(request).await?.into_inner();
            Ok((page.backups, page.next_token))
        }
    })
    .await
}

/// Every snapshot on record. A local copy is, so no bucket is asked.
pub(crate) async fn snapshots_on_record(manager: &Manager) -> Result<Vec<api::Snapshot>, Status> {
    let (snapshots, _) = snapshots(manager, true).await?;
    Ok(snapshots)
}

/// Every snapshot, also of the repositories unless only those on record are asked for; and what could not be listed, in words.
pub(crate) async fn snapshots(
    manager: &Manager,
    on_record_only: bool,
) -> Result<(Vec<api::Snapshot>, Vec<String>), Status> {
    let pages = all(|starting_token| {
        let mut client = manager.manager();
        async move {
            let request = api::ListSnapshotsRequest {
                starting_token,
                on_record_only,
                ..Default::default()
            };
            let page = client.list_snapshots(request).await?.into_inner();
            Ok((vec![(page.snapshots, page.warnings)], page.next_token))
        }
    });
    let (mut snapshots, mut warnings) = (Vec::new(), Vec::new());
    for page in pages.await? {
        snapshots.extend(page.0);
        for warning in page.1 {
            // Each page has them again.
            if !warnings.contains(&warning) {
                warnings.push(warning);
            }
        }
    }
    Ok((snapshots, warnings))
}

/// Asks for one page after the other, until the token of the next one is empty.
async fn all<T, F>(mut page: impl FnMut(String) -> F) -> Result<Vec<T>, Status>
where
    F: Future<Output = Result<(Vec<T>, String), Status>>,
{
    let (mut all, mut token) = (Vec::new(), String::new());
    loop {
        let (entries, next) = page(token.clone()).await?;
        all.extend(entries);
        if next.is_empty() {
            return Ok(all);
        }
        if next == token {
            return Err(Status::internal("a list of the manager does not go on"));
        }
        token = next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn all_pages_are_one_list() {
        let (mut tokens, pages) = (
            Vec::new(),
            [("a", vec![1, 2]), ("b", vec![3]), ("", vec![4])],
        );
        let mut left = pages.into_iter();
        let listed = all(|token| {
            tokens.push(token);
            let (next, entries) = left.next().unwrap();
            async move { Ok((entries, next.to_owned())) }
        });
        assert_eq!(listed.await.unwrap(), [1, 2, 3, 4]);
        assert_eq!(tokens, ["", "a", "b"]);
        // An error in the middle is no shorter list, and one that goes round has an end.
        for (second, code) in [
            (Err(Status::aborted("a")), tonic::Code::Aborted),
            (Ok((vec![2], "a".to_owned())), tonic::Code::Internal),
        ] {
            let mut pages = [Ok((vec![1], "a".to_owned())), second].into_iter();
            let listed = all(|_| std::future::ready(pages.next().unwrap()));
            assert_eq!(listed.await.unwrap_err().code(), code);
        }
    }
}

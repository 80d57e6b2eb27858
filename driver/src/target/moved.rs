//! A name whose device is another one now: its volume lies in another pool, say.
//!
//! Whoever was let in was let in to the old device. So that is withdrawn before the new one is exported, and the new one
//! begins with nobody.

use super::{
    ExportRecord, ExportSource, TargetError,
    lio::Lio,
    work::{Inner, Turn},
};

impl Inner {
    /// The record as far as it is of this device: where the kernel has another one by this name, that export is taken back, and
    /// nobody is on record any more. The turn comes back in either case.
    ///
    /// # Errors
    /// `InUse` while hosts are logged in to the other device; then nothing has changed.
    pub(super) async fn of_this_device(
        &self,
        turn: Turn,
        before: ExportRecord,
        source: &ExportSource,
    ) -> Result<(Turn, Result<ExportRecord, TargetError>), TargetError> {
        let asked = source.clone();
        let (turn, moved) = self
            .step(turn, "looking at a target", move |lio| {
                Ok(has_moved(lio, &asked))
            })
            .await?;
        match moved {
            Ok(true) => self.withdraw(turn, before, source).await,
            Ok(false) => Ok((turn, Ok(before))),
            Err(error) => Ok((turn, Err(error))),
        }
    }

    async fn withdraw(
        &self,
        turn: Turn,
        before: ExportRecord,
        source: &ExportSource,
    ) -> Result<(Turn, Result<ExportRecord, TargetError>), TargetError> {
        tracing::warn!(
            name = %source.name,
            device = %source.device.display(),
            hosts = before.grants.len(),
            "what is exported by this name lies on another device: that export is withdrawn, and its hosts have to connect again"
        );
        let nobody = ExportRecord {
            name: before.name.clone(),
            grants: Vec::new(),
        };
        // The record first: if this ends here, nothing lets those hosts in to the new device.
        if let Err(error) = self.put(&nobody).await {
            return Ok((turn, Err(error)));
        }
        let name = source.name.clone();
        let (turn, removed) = self
            .step(turn, "withdrawing a target", move |lio| {
                Ok(lio.remove(&name, false))
            })
            .await?;
        let Err(error) = removed else {
            return Ok((turn, Ok(nobody)));
        };
        let put_back = self.put(&before).await;
        Ok((turn, Err(put_back.err().unwrap_or(error))))
    }
}

fn has_moved(lio: &Lio, asked: &ExportSource) -> Result<bool, TargetError> {
    if !lio.is_elsewhere(&asked.name, &asked.device)? {
        return Ok(false);
    }
    let initiators = lio.logged_in(&asked.name)?;
    if initiators.is_empty() {
        return Ok(true);
    }
    Err(TargetError::InUse {
        name: asked.name.clone(),
        initiators,
    })
}

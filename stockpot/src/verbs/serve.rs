//! `stockpot serve`: the manager and its CSI frontend in one process, until a signal comes.

use anyhow::Context as _;

use crate::{cli::ServeArgs, config, interrupt::Interrupt};

pub(crate) async fn run(args: &ServeArgs, interrupt: &Interrupt) -> anyhow::Result<()> {
    let path = args.config.clone();
    let config = interrupt
        .unless_blocking(move || config::read(&path))
        .await?;
    if args.check {
        eprintln!("{} is sound", args.config.display());
        return Ok(());
    }
    let stopping = interrupt.token().clone();
    // The frontend stops first: what it has accepted, the manager still answers.
    let manager_stop = tokio_util::sync::CancellationToken::new();
    let manager = {
        let stop = manager_stop.clone();
        async move {
            stockpot_manager::serve(config.manager, async move { stop.cancelled().await }).await
        }
    };
    let frontend = {
        let (stopping, manager_stop) = (stopping.clone(), manager_stop.clone());
        async move {
            let outcome = match config.csi {
                Some(csi) => {
                    stockpot_csi::serve(csi, async move { stopping.cancelled().await }).await
                }
                None => {
                    stopping.cancelled().await;
                    Ok(())
                }
            };
            manager_stop.cancel();
            outcome.context("the CSI frontend stopped")
        }
    };
    let manager = async {
        let outcome = manager.await.context("the manager stopped");
        // Without a manager the frontend has nobody to ask.
        stopping.cancel();
        outcome
    };
    let (manager, frontend) = tokio::join!(manager, frontend);
    manager?;
    frontend?;
    tracing::info!("stopped");
    Ok(())
}

//! The verbs, a module each.

mod backup;
mod backups;
mod catalog;
mod driver;
mod export;
mod forget;
mod host;
mod patience;
mod pki;
mod pool;
mod profile;
mod prune;
mod repository;
mod restore;
mod schedule;
mod serve;
mod shell;
mod snapshot;
mod snapshots;
mod status;
mod verify;
mod volume;

use crate::{
    cli::{Cli, Verb},
    interrupt::Interrupt,
    usage::Usage,
};

/// Carries out what the command line says.
///
/// # Errors
/// Whatever keeps the verb from being done; [`Usage`](crate::usage::Usage) where the arguments cannot be meant.
pub(crate) async fn run(cli: Cli, interrupt: &Interrupt) -> anyhow::Result<()> {
    match &cli.verb {
        Verb::Backup(command) => match (&command.verb, &command.args.0) {
            (Some(verb), _) => interrupt.unless(backups::run(&cli, verb)).await,
            (None, Some(args)) => backup::run(&cli, args, interrupt).await,
            (None, None) => Err(Usage::new("what is to be backed up?").into()),
        },
        Verb::Restore(args) => restore::run(&cli, args, interrupt).await,
        Verb::Snapshots(args) => snapshots::run(&cli, args, interrupt).await,
        Verb::Verify(args) => verify::run(&cli, args, interrupt).await,
        Verb::Forget(args) => forget::run(&cli, args, interrupt).await,
        Verb::Prune(args) => prune::run(&cli, args, interrupt).await,
        Verb::Repository(verb) => repository::run(&cli, verb, interrupt).await,
        Verb::Serve(args) => serve::run(&cli, args, interrupt).await,
        Verb::Catalog(verb) => catalog::run(&cli, verb, interrupt).await,
        Verb::Export(verb) => interrupt.unless(export::run(&cli, verb)).await,
        Verb::Host(verb) => host::run(&cli, verb),
        Verb::Pki(verb) => pki::run(&cli, verb),
        Verb::Pool(verb) => interrupt.unless(pool::run(&cli, verb)).await,
        Verb::Schedule(verb) => interrupt.unless(schedule::run(&cli, verb)).await,
        Verb::Snapshot(verb) => interrupt.unless(snapshot::run(&cli, verb)).await,
        // It never gets here: it runs without any of this.
        Verb::QuiesceWatchdog => Ok(()),
        Verb::Status(args) => status::run(&cli, args, interrupt).await,
        Verb::Volume(verb) => interrupt.unless(volume::run(&cli, verb)).await,
        Verb::Profile(verb) => interrupt.unless(profile::run(&cli, verb)).await,
        Verb::Completion(args) => shell::completion(args),
        Verb::Man(args) => shell::man(&cli, args),
    }
}

//! `stockpot repository key …`: what opens a sealed repository.

use std::{fs::OpenOptions, io::Write as _, os::unix::fs::OpenOptionsExt as _, path::Path};

use anyhow::{Context as _, anyhow};
use jiff::Timestamp;
use serde::Serialize;
use stockpot_repository::{
    Repository, RepositoryError, SlotSummary,
    format::{ids::ObjectId, slot::SlotKind},
    lock::Purged,
};

use super::open;
use crate::{
    cli::{Cli, KeyAddArgs, KeyExportArgs, KeyRemoveArgs, KeyVerb, Output, PlaceArgs},
    context,
    interrupt::Interrupt,
    repository, secret_file,
    table::Table,
};

/// A slot as it is printed; the names stay.
#[derive(Debug, Serialize)]
struct Row {
    slot: String,
    kind: Option<&'static str>,
    created_at: Option<Timestamp>,
    /// Whether this very run opened the repository through it.
    current: bool,
    /// It is tried only if it is named.
    beyond: bool,
    error: Option<String>,
}

/// A change as it is printed; the names stay.
#[derive(Debug, Serialize)]
struct Change<'a> {
    slot: String,
    change: &'a str,
    /// The bucket keeps an old version of what was removed.
    old_version_kept: bool,
}

/// An export into a file as it is printed; the names stay.
#[derive(Debug, Serialize)]
struct Exported {
    file: String,
    location: String,
}

pub(super) async fn run(cli: &Cli, verb: &KeyVerb, interrupt: &Interrupt) -> anyhow::Result<()> {
    match verb {
        KeyVerb::Add(args) => add(cli, args, interrupt).await,
        KeyVerb::Remove(args) => remove(cli, args, interrupt).await,
        KeyVerb::List(args) => list(cli, args, interrupt).await,
        KeyVerb::Export(args) => export(cli, args, interrupt).await,
    }
}

async fn add(cli: &Cli, args: &KeyAddArgs, interrupt: &Interrupt) -> anyhow::Result<()> {
    let new = secret_file::key(
        args.new.new_key_file.as_deref(),
        args.new.new_passphrase_file.as_deref(),
        interrupt,
    );
    let new = new.await?.context("clap asks for one of them")?;
    secret_file::require_strength(&new)?;
    let repository = open(&args.place, interrupt).await?;
    let opening = Repository::open(repository.store().clone(), Some(new.clone()));
    let opens_already = interrupt
        .unless(async { Ok(opening.await.is_ok()) })
        .await?;
    if opens_already && !cli.quiet {
        remark!(
            "stockpot: this secret opened the repository before: it has one slot more now, for the same secret"
        );
    }
    // Not broken off: whether the slot is there would not be known.
    let slot = repository.add_key_slot(new).await?;
    print_change(cli, &slot, "added", false)
}

async fn remove(cli: &Cli, args: &KeyRemoveArgs, interrupt: &Interrupt) -> anyhow::Result<()> {
    let slot = repository::slot_id("SLOT", &args.slot)?;
    let exported = secret_file::key(args.exported_key.as_deref(), None, interrupt).await?;
    if let (Some(source), Some(path)) = (&exported, &args.exported_key)
        && source.exported().is_none()
    {
        return Err(anyhow!(
            "{} is not what `stockpot repository key export` writes",
            path.display()
        ));
    }
    let repository = open(&args.place, interrupt).await?;
    let removed = match repository.remove_key_slot(&slot, exported.as_ref()).await {
        Err(error @ RepositoryError::LastSlot { .. }) => Err(anyhow!("{error} (--exported-key)")),
        Err(error @ RepositoryError::OwnSlot { .. }) => Err(anyhow!(
            "{error} (--key-file or --passphrase-file of the other slot, --exported-key)"
        )),
        removed => Ok(removed?),
    }?;
    if !cli.quiet {
        remark!("whoever opened the repository through this slot may have kept its key");
    }
    let old_version_kept = removed != Purged::Gone;
    print_change(cli, &slot, "removed", old_version_kept)
}

fn print_change(
    cli: &Cli,
    slot: &ObjectId,
    change: &str,
    old_version_kept: bool,
) -> anyhow::Result<()> {
    let change = Change {
        slot: slot.to_string(),
        change,
        old_version_kept,
    };
    context::print(cli.output, &change, || {
        let mut text = format!("{} key slot {}", change.change, change.slot);
        if change.old_version_kept {
            text.push_str(
                "\nthe bucket keeps an old version of it: with its secret, whoever reads versions still unwraps the key",
            );
        }
        text
    })
}

async fn list(cli: &Cli, args: &PlaceArgs, interrupt: &Interrupt) -> anyhow::Result<()> {
    let repository = open(args, interrupt).await?;
    let listing = async { Ok(repository.key_slots().await?) };
    let slots = interrupt.unless(listing).await?;
    let rows: Vec<Row> = slots.into_iter().map(row).collect();
    context::print(cli.output, &rows, || text(&rows))
}

fn row(slot: SlotSummary) -> Row {
    Row {
        slot: slot.id,
        kind: slot.kind.map(|kind| match kind {
            SlotKind::Passphrase => "passphrase",
            SlotKind::Secret => "key file",
        }),
        created_at: slot.created_at,
        current: slot.is_current,
        beyond: slot.is_beyond,
        error: slot.problem,
    }
}

fn text(rows: &[Row]) -> String {
    if rows.is_empty() {
        return "no key slots".to_owned();
    }
    let mut table = Table::new(["SLOT", "KIND", "CREATED", "REMARK"]);
    for row in rows {
        let remark = match (&row.error, row.current, row.beyond) {
            (Some(error), _, _) => error.clone(),
            (None, true, _) => "opened this time".to_owned(),
            (None, false, true) => "tried only if --key-slot names it".to_owned(),
            (None, false, false) => String::new(),
        };
        table.row([
            row.slot.clone(),
            row.kind.unwrap_or("?").to_owned(),
            row.created_at.map_or_else(
                || "?".to_owned(),
                |at| at.strftime("%Y-%m-%d %H:%M:%SZ").to_string(),
            ),
            remark,
        ]);
    }
    table.to_string()
}

async fn export(cli: &Cli, args: &KeyExportArgs, interrupt: &Interrupt) -> anyhow::Result<()> {
    let repository = open(&args.place, interrupt).await?;
    let key = repository.export_key()?;
    if args.to.as_os_str() == "-" {
        return std::io::stdout()
            .lock()
            .write_all(key.as_bytes())
            .context("cannot write to standard output");
    }
    write_new(&args.to, key.as_bytes())?;
    if cli.output == Output::Json {
        let exported = Exported {
            file: args.to.display().to_string(),
            location: repository.location(),
        };
        context::print(cli.output, &exported, String::new)?;
    }
    if !cli.quiet {
        remark!(
            "{} opens {} as a key file, whatever slots are left: keep it where nobody else reads it",
            args.to.display(),
            repository.location()
        );
    }
    Ok(())
}

/// A new file that only its owner may read; nothing is left of it if it cannot be written whole.
fn write_new(path: &Path, content: &[u8]) -> anyhow::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("cannot make {}", path.display()))?;
    let written = file.write_all(content).and_then(|()| file.sync_all());
    written
        .inspect_err(|_| {
            // The failure to write is what the user has to know.
            let _ = std::fs::remove_file(path);
        })
        .with_context(|| format!("cannot write {}", path.display()))
}

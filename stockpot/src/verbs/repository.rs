//! `stockpot repository …`: making a repository and looking at it.

mod key;

use anyhow::bail;
use jiff::Timestamp;
use serde::Serialize;

use crate::{
    cli::{Cli, InitArgs, PlaceArgs, RepositoryVerb},
    context,
    interrupt::Interrupt,
    printable, repository,
    sizes::human_size,
};

/// A repository as it is printed; the names stay.
#[derive(Debug, Serialize)]
struct Report {
    repository_id: String,
    location: String,
    chunk_size_bytes: u32,
    created_at: Timestamp,
    sealed: bool,
    /// The slot that it was opened through; none with an exported key.
    opened_slot: Option<String>,
    /// What the endpoint could do when the repository was made.
    endpoint: Option<serde_json::Value>,
    #[serde(skip)]
    endpoint_text: String,
}

pub(crate) async fn run(
    cli: &Cli,
    verb: &RepositoryVerb,
    interrupt: &Interrupt,
) -> anyhow::Result<()> {
    match verb {
        RepositoryVerb::Init(args) => init(cli, args, interrupt).await,
        RepositoryVerb::Show(args) => {
            let repository = open(args, interrupt).await?;
            print(cli, &repository)
        }
        RepositoryVerb::Key(verb) => key::run(cli, verb, interrupt).await,
    }
}

/// Opens what the arguments name.
async fn open(
    args: &PlaceArgs,
    interrupt: &Interrupt,
) -> anyhow::Result<stockpot_repository::Repository> {
    let config = repository::s3_config(&args.url, &args.s3)?;
    let key = repository::key(&args.key, interrupt).await?;
    interrupt.unless(repository::open(config, key)).await
}

async fn init(cli: &Cli, args: &InitArgs, interrupt: &Interrupt) -> anyhow::Result<()> {
    let chunk_size = repository::chunk_size(args.chunk_size)?;
    let place = &args.place;
    let config = repository::s3_config(&place.url, &place.s3)?;
    let key = repository::key(&place.key, interrupt).await?;
    let opening = repository::open_or_create(cli, interrupt, config, key, chunk_size, false);
    match opening.await? {
        (repository, true) => print(cli, &repository),
        (repository, false) => bail!("{} holds a repository already", repository.location()),
    }
}

fn print(cli: &Cli, repository: &stockpot_repository::Repository) -> anyhow::Result<()> {
    let endpoint = repository.endpoint();
    let report = Report {
        repository_id: repository.id().to_string(),
        location: repository.location(),
        chunk_size_bytes: repository.chunk_size_bytes(),
        created_at: repository.created_at(),
        sealed: repository.is_sealed(),
        opened_slot: repository.opened_slot().map(ToString::to_string),
        endpoint: endpoint.as_ref().map(serde_json::to_value).transpose()?,
        endpoint_text: endpoint
            .map(|report| report.to_string())
            .unwrap_or_default(),
    };
    context::print(cli.output, &report, || text(&report))
}

fn text(report: &Report) -> String {
    let mut text = format!(
        "repository {} at {}\nmade {}, chunks of {}, {}",
        report.repository_id,
        report.location,
        report.created_at.strftime("%Y-%m-%d %H:%M:%SZ"),
        human_size(report.chunk_size_bytes.into()),
        match (report.sealed, &report.opened_slot) {
            (false, _) => "not sealed: whoever reads the bucket reads everything".to_owned(),
            (true, Some(slot)) => format!("sealed, opened through key slot {slot}"),
            (true, None) => "sealed, opened with an exported key".to_owned(),
        }
    );
    for line in report.endpoint_text.lines() {
        text.push_str(&format!("\n  {}", printable::line(line)));
    }
    text
}

//! `stockpot profile …`: asks a running driver over its socket.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

use anyhow::{Context as _, ensure};
use serde::Serialize;
use serde_json::Value;
use stockpot_proto::{
    socket,
    stockpot::v1::{
        DeleteProfileRequest, GetProfileRequest, ListProfilesRequest, ProfileDocument,
        WriteProfileRequest, profiles_client::ProfilesClient,
    },
};
use tonic::transport::Channel;

use super::snapshot::said;
use crate::{
    cli::{Cli, ProfileVerb, SocketArgs},
    context, printable,
    table::Table,
    usage::Usage,
};

/// Largest file that is read; a profile has a hundredth of it.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// A profile as it is printed; the names stay.
#[derive(Debug, Serialize)]
struct Row {
    id: String,
    name: String,
    /// `s3://bucket/prefix`; none without a topology.
    location: Option<String>,
    /// As it stands in its file.
    document: Value,
}

pub(super) async fn run(cli: &Cli, verb: &ProfileVerb) -> anyhow::Result<()> {
    match verb {
        ProfileVerb::List { socket } => list(cli, socket).await,
        ProfileVerb::Show(args) => {
            let shown = client(&args.socket).get_profile(named(&args.name)).await;
            let profile = shown.map_err(|status| said(&args.socket, &status))?;
            print(cli, profile.into_inner())
        }
        ProfileVerb::Create { file, socket } => {
            let request = WriteProfileRequest {
                profile: String::new(),
                document: document(file)?,
            };
            let made = client(socket).create_profile(request).await;
            print(
                cli,
                made.map_err(|status| said(socket, &status))?.into_inner(),
            )
        }
        ProfileVerb::Update { name, file, socket } => {
            let request = WriteProfileRequest {
                profile: name.clone(),
                document: document(file)?,
            };
            let written = client(socket).update_profile(request).await;
            let profile = written.map_err(|status| said(socket, &status))?;
            print(cli, profile.into_inner())
        }
        ProfileVerb::Delete {
            profile: args,
            force,
        } => {
            let request = DeleteProfileRequest {
                profile: args.name.clone(),
                force: *force,
            };
            let deleted = client(&args.socket).delete_profile(request).await;
            deleted.map_err(|status| said(&args.socket, &status))?;
            if !cli.quiet {
                eprintln!("{}: deleted", printable::line(&args.name));
            }
            Ok(())
        }
    }
}

async fn list(cli: &Cli, at: &SocketArgs) -> anyhow::Result<()> {
    let mut client = client(at);
    let listed = client.list_profile_documents(ListProfilesRequest {});
    let listed = listed.await.map_err(|status| said(at, &status))?;
    let rows: Vec<Row> = listed.into_inner().profiles.into_iter().map(row).collect();
    context::print(cli.output, &rows, || {
        let mut table = Table::new(["PROFILE", "ID", "LOCATION", "DESCRIPTION"]);
        for row in &rows {
            table.row([
                row.name.clone(),
                row.id.clone(),
                row.location.clone().unwrap_or_default(),
                row.document["description"]
                    .as_str()
                    .unwrap_or_default()
                    .to_owned(),
            ]);
        }
        table.to_string()
    })
}

fn print(cli: &Cli, profile: ProfileDocument) -> anyhow::Result<()> {
    let row = row(profile);
    context::print(cli.output, &row, || {
        serde_json::to_string_pretty(&row.document).unwrap_or_default()
    })
}

fn row(profile: ProfileDocument) -> Row {
    Row {
        id: profile.id,
        name: profile.name,
        location: Some(profile.location).filter(|text| !text.is_empty()),
        // What is no JSON is shown all the same.
        document: serde_json::from_str(&profile.document)
            .unwrap_or(Value::String(profile.document)),
    }
}

/// The JSON of a file in YAML or JSON.
fn document(path: &Path) -> anyhow::Result<String> {
    let name = path.display();
    let mut text = String::new();
    let read = match path.to_str() {
        Some("-") => limited(io::stdin()).read_to_string(&mut text),
        _ => {
            let file = File::open(path).with_context(|| format!("cannot open {name}"))?;
            limited(file).read_to_string(&mut text)
        }
    };
    read.with_context(|| format!("cannot read {name}"))?;
    ensure!(
        text.len() as u64 <= FILE_BYTES_MAX,
        "{name} has more than {FILE_BYTES_MAX} bytes: that is no profile"
    );
    parse(&text).map_err(|problem| Usage::new(format!("{name} is no profile: {problem}")).into())
}

fn limited(reader: impl Read) -> impl Read {
    reader.take(FILE_BYTES_MAX + 1)
}

fn parse(text: &str) -> Result<String, String> {
    let value: Value = serde_saphyr::from_str(text).map_err(|error| error.to_string())?;
    match value.is_object() {
        true => Ok(value.to_string()),
        false => Err("it has no fields".to_owned()),
    }
}

fn named(name: &str) -> GetProfileRequest {
    GetProfileRequest {
        profile: name.to_owned(),
    }
}

fn client(at: &SocketArgs) -> ProfilesClient<Channel> {
    ProfilesClient::new(socket::channel(at.socket.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn yaml_and_json_become_the_same() {
        let yaml = "name: offsite\nsnapshotProperties:\n  retention: {number: 3}\n";
        let json = r#"{"name": "offsite", "snapshotProperties": {"retention": {"number": 3}}}"#;
        assert_eq!(parse(yaml).unwrap(), parse(json).unwrap());
        for bad in ["", "just words", "[1, 2]", "name: [", "a: 1\na: 2"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}

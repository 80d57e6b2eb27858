//! `stockpot host …`: the files by which a host does not look into volumes and snapshots.

use std::path::{Path, PathBuf};

use anyhow::bail;
use serde::Serialize;
use stockpot_connector::shield::{Gap, Shield};

use crate::{
    cli::{Cli, HostVerb},
    context,
};

/// What was found or done, as it is printed; the names stay.
#[derive(Debug, Serialize)]
struct State {
    written: Vec<PathBuf>,
    missing: Vec<String>,
}

pub(super) fn run(cli: &Cli, verb: &HostVerb) -> anyhow::Result<()> {
    let (args, install) = match verb {
        HostVerb::Check(args) => (args, false),
        HostVerb::Install(args) => (args, true),
    };
    let shield = Shield::below(&args.root);
    let written = match install {
        true => shield.install()?,
        false => Vec::new(),
    };
    let gaps = shield.check()?;
    let state = State {
        missing: gaps.iter().map(ToString::to_string).collect(),
        written,
    };
    context::print(cli.output, &state, || {
        let mut text: String = state
            .written
            .iter()
            .map(|path| format!("wrote {}\n", path.display()))
            .collect();
        if state.written.iter().any(|path| is_rules(path)) {
            text.push_str("now run: udevadm control --reload\n");
        }
        for missing in &state.missing {
            text.push_str(&format!("missing: {missing}\n"));
        }
        if text.is_empty() {
            text.push_str("nothing is missing\n");
        }
        text
    })?;
    if state.missing.is_empty() {
        return Ok(());
    }
    let by_hand = gaps.iter().filter(|gap| is_for_a_person(gap)).count();
    match (install, by_hand) {
        (true, _) => bail!("not all could be put in place: the rest is to be changed by hand"),
        (false, 0) => bail!(
            "this host may look into volumes; `stockpot host install` puts in place what is missing"
        ),
        (false, some) if some == gaps.len() => {
            bail!("this host may look into volumes, until what is said above is changed by hand")
        }
        (false, _) => bail!(
            "this host may look into volumes; `stockpot host install` puts in place what is missing, but for what is to be changed by hand"
        ),
    }
}

/// Whether it is in a file of the site's own, which nothing but a person changes.
fn is_for_a_person(gap: &Gap) -> bool {
    matches!(gap, Gap::SiteFilter { .. })
}

fn is_rules(path: &Path) -> bool {
    path.extension()
        .is_some_and(|extension| extension == "rules")
}

/// For the daemon: says in the log what is missing on the host, and serves all the same.
pub(super) fn warn() {
    match Shield::below(Path::new("/")).check() {
        Ok(gaps) => {
            for gap in gaps {
                match is_for_a_person(&gap) {
                    true => {
                        tracing::warn!(%gap, "this host may look into volumes and snapshots, until that is changed by hand")
                    }
                    false => {
                        tracing::warn!(%gap, "this host may look into volumes and snapshots; run `stockpot host install` on it (on the host, if this is a container)")
                    }
                }
            }
        }
        Err(error) => {
            let error = context::chain(&error.into());
            tracing::warn!(
                error,
                "it could not be seen whether this host looks into volumes"
            );
        }
    }
}

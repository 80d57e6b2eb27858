//! What other hosts get of this one: on record, in the kernel, and whether it is there at all.

use super::{Kind, Place, Report};
use crate::{Manager, error::chain};

pub(super) async fn compare(manager: &Manager, report: &mut Report) {
    let Some(exports) = &manager.exports else {
        return;
    };
    let names = match exports.names().await {
        Ok(names) => names,
        Err(error) => return unasked(report, &chain(&error)),
    };
    report.looked_at(format!("{} exports on record", names.len()));
    for name in names {
        let id = name.to_string();
        match exports.pool_of(&name).await {
            Ok(None) => report
                .find(Place::Exports, Kind::Missing, "export", &id)
                .say(
                    "hosts are let in to it on record, and no pool has it",
                    "the next start removes the export; `stockpot export end` takes a host's access away now",
                )
                .passes_if(false),
            Ok(Some(_)) if !exports.is_made(&name) => report
                .find(Place::Exports, Kind::Missing, "export", &id)
                .say(
                    "it is on record, and the kernel has no target for it",
                    "it is tried again behind; the log says what keeps it from being made",
                )
                .passes_if(true),
            Ok(Some(_)) => {}
            Err(error) => unasked(report, &chain(&error)),
        }
    }
    match exports.unrecorded().await {
        Ok(hosts) => {
            for host in hosts {
                let id = format!("{} {}", host.name, host.initiator);
                let text = match host.is_logged_in {
                    true => {
                        "the kernel lets this host in, which is logged in, and no record names it"
                    }
                    false => "the kernel lets this host in, and no record names it",
                };
                report
                    .find(Place::Exports, Kind::Unknown, "export", &id)
                    .say(text, "it loses its access when it logs out; `stockpot export end --force` takes it away now")
                    .passes_if(false);
            }
        }
        Err(error) => unasked(report, &chain(&error)),
    }
}

fn unasked(report: &mut Report, why: &str) {
    report
        .find(Place::Exports, Kind::Different, "exports", "")
        .say(
            format!("not all of them could be looked at: {why}"),
            "see the log",
        )
        .passes_if(false);
}

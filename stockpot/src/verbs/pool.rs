//! `stockpot pool …`: asks a running driver over its socket.

use anyhow::bail;
use serde::Serialize;
use stockpot_proto::stockpot::v1::{GetCapacityRequest, GetCapacityResponse, GetInfoRequest};

use super::driver::{client, said};
use crate::{
    cli::{Cli, PoolVerb, SocketArgs},
    context, printable,
    sizes::human_size,
    table::Table,
};

/// A pool as it is printed; the names stay. Of one whose storage does not answer only the name and the error are known.
#[derive(Debug, Default, Serialize)]
struct Row {
    pool: String,
    driver: String,
    total_bytes: u64,
    available_bytes: u64,
    /// Largest volume that can be made now.
    maximum_volume_bytes: u64,
    /// Snapshots that are kept only so that the next upload is told what changed.
    kept_bases: u64,
    /// What they take at most.
    kept_bases_bytes_max: u64,
    error: String,
}

pub(super) async fn run(cli: &Cli, verb: &PoolVerb) -> anyhow::Result<()> {
    let PoolVerb::List { socket } = verb;
    let rows = rows(socket).await?;
    context::print(cli.output, &rows, || table(&rows))?;
    let silent = rows.iter().filter(|row| !row.error.is_empty()).count();
    if silent > 0 {
        bail!("{silent} of {} pools cannot be asked", rows.len());
    }
    Ok(())
}

async fn rows(at: &SocketArgs) -> anyhow::Result<Vec<Row>> {
    let mut client = client(at);
    let info = client.get_info(GetInfoRequest {}).await;
    let info = info.map_err(|status| said(at, &status))?.into_inner();
    let mut rows = Vec::new();
    for pool in info.pools {
        let request = GetCapacityRequest { pool: pool.clone() };
        rows.push(match client.get_capacity(request).await {
            Ok(room) => row(pool, room.into_inner()),
            // The others may answer.
            Err(status) => Row {
                pool,
                error: said(at, &status).to_string(),
                ..Row::default()
            },
        });
    }
    Ok(rows)
}

fn row(pool: String, room: GetCapacityResponse) -> Row {
    Row {
        pool,
        driver: room.driver,
        total_bytes: room.total_bytes,
        available_bytes: room.available_bytes,
        maximum_volume_bytes: room.maximum_volume_bytes,
        kept_bases: room.kept_bases,
        kept_bases_bytes_max: room.kept_bases_bytes_max,
        error: String::new(),
    }
}

fn table(rows: &[Row]) -> String {
    let mut table = Table::new(["POOL", "DRIVER", "SIZE", "FREE", "BASES", "AT MOST"]);
    for row in rows {
        let name = row.pool.clone();
        if row.error.is_empty() {
            table.row([
                name,
                row.driver.clone(),
                human_size(row.total_bytes),
                human_size(row.available_bytes),
                row.kept_bases.to_string(),
                human_size(row.kept_bases_bytes_max),
            ]);
        } else {
            let unknown = || "?".to_owned();
            table.row([name, unknown(), unknown(), unknown(), unknown(), unknown()]);
        }
    }
    let errors = rows.iter().filter(|row| !row.error.is_empty());
    errors.fold(table.to_string(), |text, row| {
        let (pool, error) = (printable::line(&row.pool), printable::line(&row.error));
        format!("{text}{pool}: {error}\n")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_shown_beside_the_room() {
        let room = GetCapacityResponse {
            available_bytes: 3 << 30,
            total_bytes: 8 << 30,
            driver: "lvm-thin".to_owned(),
            kept_bases: 2,
            kept_bases_bytes_max: 5 << 20,
            ..GetCapacityResponse::default()
        };
        let silent = Row {
            pool: "far".to_owned(),
            error: "no answer".to_owned(),
            ..Row::default()
        };
        let text = table(&[row("fast".to_owned(), room), silent]);
        let lines: Vec<Vec<&str>> = text
            .lines()
            .map(|line| line.split_whitespace().collect())
            .collect();
        assert_eq!(
            lines[1],
            [
                "fast", "lvm-thin", "8.00", "GiB", "3.00", "GiB", "2", "5.00", "MiB"
            ]
        );
        assert_eq!(lines[2], ["far", "?", "?", "?", "?", "?"]);
        assert_eq!(lines[3], ["far:", "no", "answer"]);
    }
}

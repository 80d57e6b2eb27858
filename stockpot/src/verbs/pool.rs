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
    driver: Option<String>,
    total_bytes: Option<u64>,
    available_bytes: Option<u64>,
    /// Largest volume that can be made now.
    maximum_volume_bytes: Option<u64>,
    /// Snapshots that are kept only so that the next upload is told what changed.
    kept_bases: Option<u64>,
    /// What they take at most.
    kept_bases_bytes_max: Option<u64>,
    /// Why it cannot be asked.
    error: Option<String>,
}

pub(super) async fn run(cli: &Cli, verb: &PoolVerb) -> anyhow::Result<()> {
    let PoolVerb::List { socket } = verb;
    let rows = rows(socket).await?;
    context::print(cli.output, &rows, || table(&rows))?;
    let silent = rows.iter().filter(|row| row.error.is_some()).count();
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
                error: Some(said(at, &status).to_string()),
                ..Row::default()
            },
        });
    }
    Ok(rows)
}

fn row(pool: String, room: GetCapacityResponse) -> Row {
    Row {
        pool,
        driver: Some(room.driver),
        total_bytes: Some(room.total_bytes),
        available_bytes: Some(room.available_bytes),
        maximum_volume_bytes: Some(room.maximum_volume_bytes),
        kept_bases: Some(room.kept_bases),
        kept_bases_bytes_max: Some(room.kept_bases_bytes_max),
        error: None,
    }
}

fn table(rows: &[Row]) -> String {
    let mut table = Table::new(["POOL", "DRIVER", "SIZE", "FREE", "BASES", "AT MOST"]);
    let unknown = || "?".to_owned();
    let size = |bytes: Option<u64>| bytes.map_or_else(unknown, human_size);
    for row in rows {
        table.row([
            row.pool.clone(),
            row.driver.clone().unwrap_or_else(unknown),
            size(row.total_bytes),
            size(row.available_bytes),
            row.kept_bases
                .map_or_else(unknown, |number| number.to_string()),
            size(row.kept_bases_bytes_max),
        ]);
    }
    let errors = rows.iter().filter_map(|row| {
        let error = row.error.as_ref()?;
        let (pool, error) = (printable::line(&row.pool), printable::line(error));
        Some(format!("{pool}: {error}\n"))
    });
    errors.fold(table.to_string(), |text, line| text + &line)
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
            error: Some("no answer".to_owned()),
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

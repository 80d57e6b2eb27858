//! `stockpot catalog …`: checks what a running driver has on record, or makes a lost catalog again.

mod rebuild;

use anyhow::bail;
use serde::Serialize;
use stockpot_proto::{
    socket,
    stockpot::v1::{
        CatalogFinding, CheckCatalogRequest, catalog_service_client::CatalogServiceClient,
    },
};

use super::driver::said;
use crate::{
    cli::{CatalogCheckArgs, CatalogVerb, Cli},
    context,
    interrupt::Interrupt,
    table::Table,
};

/// A check as it is printed; the names stay.
#[derive(Debug, Serialize)]
struct Checked {
    findings: Vec<Finding>,
    looked_at: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Finding {
    /// catalog, storage, exports, host, bucket
    r#where: String,
    /// missing, unknown, different
    kind: String,
    what: String,
    id: String,
    text: String,
    advice: String,
    /// Work is under way that may explain it.
    passing: bool,
}

pub(super) async fn run(
    cli: &Cli,
    verb: &CatalogVerb,
    interrupt: &Interrupt,
) -> anyhow::Result<()> {
    match verb {
        CatalogVerb::Check(args) => interrupt.unless(check(cli, args)).await,
        CatalogVerb::Rebuild(args) => rebuild::run(cli, args, interrupt).await,
    }
}

async fn check(cli: &Cli, args: &CatalogCheckArgs) -> anyhow::Result<()> {
    let at = &args.socket;
    let mut client = CatalogServiceClient::new(socket::channel(at.socket.clone()));
    let request = CheckCatalogRequest {
        local_only: args.local_only,
    };
    let answer = client.check_catalog(request).await;
    let answer = answer.map_err(|status| said(at, &status))?.into_inner();
    let checked = Checked {
        findings: answer.findings.into_iter().map(Finding::from).collect(),
        looked_at: answer.looked_at,
    };
    context::print(cli.output, &checked, || text(&checked, cli.quiet))?;
    let standing = checked.findings.iter().filter(|f| !f.passing).count();
    if standing > 0 {
        bail!(
            "the catalog and what is there differ: {}",
            crate::sizes::count(standing as u64, "finding")
        );
    }
    Ok(())
}

fn text(checked: &Checked, quiet: bool) -> String {
    let mut text = String::new();
    if !checked.findings.is_empty() {
        let mut table = Table::new(["WHERE", "KIND", "WHAT", "ID", "FINDING", "ADVICE"]);
        for finding in &checked.findings {
            let passing = if finding.passing { " (passing)" } else { "" };
            table.row([
                finding.r#where.clone(),
                format!("{}{passing}", finding.kind),
                finding.what.clone(),
                finding.id.clone(),
                finding.text.clone(),
                finding.advice.clone(),
            ]);
        }
        text.push_str(&table.to_string());
    }
    if !quiet {
        for line in &checked.looked_at {
            text.push_str(&format!("looked at {}\n", crate::printable::line(line)));
        }
        if checked.findings.is_empty() {
            text.push_str("the catalog is what is there\n");
        }
    }
    text
}

impl From<CatalogFinding> for Finding {
    fn from(finding: CatalogFinding) -> Self {
        Self {
            r#where: finding.r#where,
            kind: finding.kind,
            what: finding.what,
            id: finding.id,
            text: finding.text,
            advice: finding.advice,
            passing: finding.passing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_come_before_what_was_looked_at() {
        let finding = CatalogFinding {
            r#where: "storage".to_owned(),
            kind: "missing".to_owned(),
            what: "volume".to_owned(),
            id: "vol-1".to_owned(),
            text: "pool p does not have it".to_owned(),
            advice: "delete it".to_owned(),
            passing: true,
        };
        let mut checked = Checked {
            findings: vec![finding.into()],
            looked_at: vec!["pool p: 0 volumes".to_owned()],
        };
        let all = text(&checked, false);
        let lines: Vec<&str> = all.lines().collect();
        assert!(
            lines[1].contains("missing (passing)") && lines[1].contains("vol-1"),
            "{all}"
        );
        assert_eq!(lines[2], "looked at pool p: 0 volumes");
        checked.findings.clear();
        assert!(text(&checked, false).ends_with("the catalog is what is there\n"));
        assert_eq!(text(&checked, true), "");
    }
}

//! What a check finds, and what it looked at.

use stockpot_proto::stockpot::v1 as api;

/// Where something is not as it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place {
    Catalog,
    Storage,
    Exports,
    Host,
    Bucket,
}

impl Place {
    fn word(self) -> &'static str {
        match self {
            Self::Catalog => "catalog",
            Self::Storage => "storage",
            Self::Exports => "exports",
            Self::Host => "host",
            Self::Bucket => "bucket",
        }
    }
}

/// How it is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// On record, and not there.
    Missing,
    /// There, and not on record.
    Unknown,
    /// Both, and not the same.
    Different,
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Unknown => "unknown",
            Self::Different => "different",
        }
    }
}

/// All findings of a check.
#[derive(Debug, Default)]
pub(super) struct Report {
    findings: Vec<(Place, api::CatalogFinding)>,
    looked_at: Vec<String>,
}

impl Report {
    /// Notes a finding about one thing; the words come with [`Found::say`].
    pub(super) fn find(&mut self, place: Place, kind: Kind, what: &str, id: &str) -> Found<'_> {
        let finding = api::CatalogFinding {
            r#where: place.word().to_owned(),
            kind: kind.word().to_owned(),
            what: what.to_owned(),
            id: id.to_owned(),
            ..Default::default()
        };
        self.findings.push((place, finding));
        Found(&mut self.findings.last_mut().expect("just added").1)
    }

    /// Notes what was looked at.
    pub(super) fn looked_at(&mut self, what: String) {
        self.looked_at.push(what);
    }

    pub(super) fn into_answer(mut self) -> api::CheckCatalogResponse {
        // What may pass comes last.
        self.findings
            .sort_by_key(|(place, finding)| (finding.passing, *place));
        api::CheckCatalogResponse {
            findings: self
                .findings
                .into_iter()
                .map(|(_, finding)| finding)
                .collect(),
            looked_at: self.looked_at,
        }
    }
}

/// A finding that is being put into words.
pub(super) struct Found<'a>(&'a mut api::CatalogFinding);

impl Found<'_> {
    /// What is wrong, and what to do about it.
    pub(super) fn say(self, text: impl Into<String>, advice: impl Into<String>) -> Self {
        self.0.text = text.into();
        self.0.advice = advice.into();
        self
    }

    /// Whether work is under way that may explain it.
    pub(super) fn passes_if(self, passing: bool) {
        self.0.passing = passing;
    }
}

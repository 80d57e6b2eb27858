//! Who asks for a connection, or for its end.

use super::{ExportRecord, TargetError, names};

/// A host, and the initiator that it names.
#[derive(Debug, Clone)]
pub(super) struct Asking {
    pub(super) host: String,
    /// In small letters.
    pub(super) initiator: String,
}

impl Asking {
    pub(super) fn new(host: &str, initiator: &str) -> Result<Self, TargetError> {
        Ok(Self {
            host: host.to_owned(),
            initiator: names::initiator(initiator)?,
        })
    }

    /// Whether the initiator was let in for the host that asks, if it was let in: any host can write down any name, and would get
    /// another one's secrets, or end its connection.
    ///
    /// # Errors
    /// `OtherHost`.
    pub(super) fn check(&self, record: &ExportRecord) -> Result<(), TargetError> {
        let mut grants = record.grants.iter();
        let grant = grants.find(|grant| grant.initiator == self.initiator);
        match grant.and_then(|grant| grant.host.as_ref()) {
            Some(host) if *host != self.host => Err(TargetError::OtherHost {
                name: record.name.clone(),
                initiator: self.initiator.clone(),
                host: host.clone(),
                asking: self.host.clone(),
            }),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::records::tests::record, *};

    #[test]
    fn an_initiator_is_of_the_host_for_which_it_was_let_in() {
        let record = record("s-1");
        let (known, unknown) = ("iqn.2026-01.test:A", "iqn.2026-01.test:b");
        for (host, initiator, is_good) in [
            ("worker-1", known, true),
            ("worker-2", known, false),
            // Nothing says whose it is.
            ("worker-2", unknown, true),
            ("worker-2", "iqn.2026-01.test:c", true),
        ] {
            let checked = Asking::new(host, initiator).unwrap().check(&record);
            assert_eq!(checked.is_ok(), is_good, "{host} {initiator}");
        }
    }
}

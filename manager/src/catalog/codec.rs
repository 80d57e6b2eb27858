//! Columns to values and back. What is read is checked: a row may have been edited by hand.

use std::str::FromStr;

use rusqlite::Row;
use serde::{Serialize, de::DeserializeOwned};

use super::{CatalogError, Consistency, RecordedError, Sent, UploadReason};

/// An enum that stands as a word in a column.
macro_rules! text_enum {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$vdoc])* $variant,)* }

        impl $name {
            /// The word in the catalog.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl std::str::FromStr for $name {
            type Err = ();
            fn from_str(text: &str) -> Result<Self, ()> {
                match text { $($text => Ok(Self::$variant),)* _ => Err(()) }
            }
        }
    };
}
pub(super) use text_enum;

/// Reads the columns of one row by name.
pub(super) struct Columns<'r, 's> {
    pub(super) table: &'static str,
    pub(super) row: &'r Row<'s>,
}

impl Columns<'_, '_> {
    /// A text that has to be there.
    pub(super) fn text(&self, column: &'static str) -> Result<String, CatalogError> {
        Ok(self.row.get(column)?)
    }

    /// A text that may be absent.
    pub(super) fn optional_text(
        &self,
        column: &'static str,
    ) -> Result<Option<String>, CatalogError> {
        Ok(self.row.get(column)?)
    }

    /// A number that may be absent.
    pub(super) fn optional_number(
        &self,
        column: &'static str,
    ) -> Result<Option<i64>, CatalogError> {
        Ok(self.row.get(column)?)
    }

    /// A number.
    pub(super) fn number(&self, column: &'static str) -> Result<i64, CatalogError> {
        Ok(self.row.get(column)?)
    }

    /// A truth value.
    pub(super) fn flag(&self, column: &'static str) -> Result<bool, CatalogError> {
        Ok(self.row.get(column)?)
    }

    /// A size in bytes.
    pub(super) fn bytes(&self, column: &'static str) -> Result<u64, CatalogError> {
        let number = self.number(column)?;
        u64::try_from(number).map_err(|_| self.unusable(column, &number.to_string()))
    }

    /// A word that stands for a value: an enum, an id.
    pub(super) fn word<T: FromStr>(&self, column: &'static str) -> Result<T, CatalogError> {
        let text = self.text(column)?;
        text.parse().map_err(|_| self.unusable(column, &text))
    }

    /// A word that may be absent.
    pub(super) fn optional_word<T: FromStr>(
        &self,
        column: &'static str,
    ) -> Result<Option<T>, CatalogError> {
        match self.optional_text(column)? {
            None => Ok(None),
            Some(text) => match text.parse() {
                Ok(value) => Ok(Some(value)),
                Err(_) => Err(self.unusable(column, &text)),
            },
        }
    }

    /// A value kept as JSON.
    pub(super) fn json<T: DeserializeOwned>(
        &self,
        column: &'static str,
    ) -> Result<T, CatalogError> {
        let text = self.text(column)?;
        serde_json::from_str(&text).map_err(|_| self.unusable(column, &text))
    }

    /// The failure that a row carries.
    pub(super) fn recorded_error(&self) -> Result<Option<RecordedError>, CatalogError> {
        let Some(text) = self.optional_text("error")? else {
            return Ok(None);
        };
        let code = self.optional_number("error_code")?.unwrap_or_default();
        let code =
            i32::try_from(code).map_err(|_| self.unusable("error_code", &code.to_string()))?;
        Ok(Some(RecordedError { code, text }))
    }

    /// What an upload sent, once it is committed.
    pub(super) fn sent(&self) -> Result<Option<Sent>, CatalogError> {
        match self.optional_number("stored_bytes")? {
            None => Ok(None),
            Some(_) => Ok(Some(Sent {
                stored_bytes: self.bytes("stored_bytes")?,
                requests: self.bytes("requests")?,
            })),
        }
    }

    /// How an upload knew what to send, once it is committed.
    pub(super) fn reason(&self) -> Result<Option<(UploadReason, String)>, CatalogError> {
        let reason = self.optional_word("reason")?;
        Ok(reason.zip(self.optional_text("reason_text")?))
    }

    /// What a restore shows, once it is cut.
    pub(super) fn consistency(&self) -> Result<Option<(Consistency, String)>, CatalogError> {
        let consistency = self.optional_word("consistency")?;
        Ok(consistency.zip(self.optional_text("consistency_text")?))
    }

    pub(super) fn unusable(&self, column: &'static str, value: &str) -> CatalogError {
        CatalogError::Row {
            table: self.table,
            column,
            value: value.chars().take(80).collect(),
        }
    }
}

/// A size as a column holds it. Sizes end far below what does not fit.
pub(super) fn column_of(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

/// A value as JSON.
pub(super) fn to_json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("maps of strings and plain structs are JSON")
}

//! Who holds a device of this host: what has to be refused, and in which words.

use std::path::Path;

use stockpot_driver::in_use;

use crate::ConnectorError;

/// The error for a device that cannot be opened exclusively.
pub(crate) fn claimed(path: &Path) -> ConnectorError {
    let by = match in_use::number_of(path) {
        Some(number) => in_use::holders(number),
        None => "open".to_owned(),
    };
    ConnectorError::InUse {
        path: path.to_owned(),
        by,
    }
}

/// Whether somebody uses the device without claiming it. One that is not there is used by nobody.
///
/// # Errors
/// `InUse`, and `Io` if that cannot be told.
pub(crate) fn check_unclaimed(path: &Path) -> Result<(), ConnectorError> {
    let Some(number) = in_use::number_of(path) else {
        return Ok(());
    };
    let by = in_use::unclaimed(number).map_err(|source| ConnectorError::Io {
        doing: "cannot tell who uses",
        path: path.to_owned(),
        source,
    })?;
    if by.is_empty() {
        return Ok(());
    }
    Err(ConnectorError::InUse {
        path: path.to_owned(),
        by: by.join(", "),
    })
}

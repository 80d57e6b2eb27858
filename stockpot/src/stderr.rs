//! Remarks on standard error. It may be a file on a full disk, or a pipe that nobody reads any more: what cannot be said there is
//! left unsaid, and the work goes on.

use std::{
    fmt,
    io::{self, Write as _},
};

/// Prints a line on standard error, where that is possible. `eprintln!` would panic where it is not.
macro_rules! remark {
    ($($text:tt)*) => {
        $crate::stderr::line(format_args!($($text)*))
    };
}

/// What [`remark!`] stands for.
pub(crate) fn line(text: fmt::Arguments<'_>) {
    // In one write, so that lines of several threads do not mix.
    let _ = io::stderr().write_all(format!("{text}\n").as_bytes());
}

//! How fast bytes may go, as the arguments say, or a file that is read again at each SIGHUP.

use std::{
    fs::{self, File},
    io::Read as _,
    num::NonZeroU64,
    path::Path,
};

use anyhow::Context as _;
use stockpot_repository::store::Bandwidth;
use tokio::signal::unix::{SignalKind, signal};

use crate::{cli::S3Args, context, printable, sizes::parse_size, usage::Usage};

/// A file of limits is no longer than this, in bytes.
const SIZE_MAX: u64 = 64 << 10;

/// Bytes per second; `None`: no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Limits {
    upload: Option<NonZeroU64>,
    download: Option<NonZeroU64>,
}

impl Limits {
    fn apply(self, bandwidth: &Bandwidth) {
        bandwidth.set_upload(self.upload);
        bandwidth.set_download(self.download);
    }
}

/// Sets the limits, and follows the file if there is one. Must be called inside the runtime.
///
/// # Errors
/// [`Usage`] for a file that does not say what it has to; when it cannot be read, or signals cannot be received.
pub(crate) fn follow(args: &S3Args, bandwidth: &Bandwidth) -> anyhow::Result<()> {
    let Some(path) = &args.limit_file else {
        let limits = Limits {
            upload: args.limit_upload,
            download: args.limit_download,
        };
        limits.apply(bandwidth);
        return Ok(());
    };
    // Before the file is read: a change that is told of meanwhile must neither be missed nor end the program.
    let mut hangups =
        signal(SignalKind::hangup()).context("cannot receive SIGHUP, which --limit-file needs")?;
    read(path)?.apply(bandwidth);
    let (path, bandwidth) = (path.clone(), bandwidth.clone());
    tokio::spawn(async move {
        while hangups.recv().await.is_some() {
            let again = path.clone();
            // The file may be on a file system that does not answer.
            let read = tokio::task::spawn_blocking(move || read(&again)).await;
            match read.context("reading the limits").and_then(|read| read) {
                Ok(limits) => {
                    limits.apply(&bandwidth);
                    tracing::info!(?limits, "new limits");
                }
                Err(error) => remark!(
                    "stockpot: the limits stay as they are: {}",
                    context::chain(&error)
                ),
            }
        }
    });
    Ok(())
}

fn read(path: &Path) -> anyhow::Result<Limits> {
    let unreadable = || format!("cannot read --limit-file {}", path.display());
    let wrong = |problem: &str| Usage::new(format!("--limit-file {}: {problem}", path.display()));
    // Opening a pipe would wait for somebody to write to it.
    if !fs::metadata(path).with_context(unreadable)?.is_file() {
        return Err(wrong("it has to be a regular file").into());
    }
    let mut text = String::new();
    let length = File::open(path)
        .and_then(|file| file.take(SIZE_MAX + 1).read_to_string(&mut text))
        .with_context(unreadable)?;
    if length as u64 > SIZE_MAX {
        return Err(wrong("it is longer than 64 KiB").into());
    }
    parse(&text).map_err(|problem| wrong(&problem).into())
}

fn parse(text: &str) -> Result<Limits, String> {
    let mut limits = Limits::default();
    for (number, line) in (1..).zip(text.lines()) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (direction, rate) = match words[..] {
            [] => continue,
            [word, ..] if word.starts_with('#') => continue,
            ["upload", rate] => (&mut limits.upload, rate),
            ["download", rate] => (&mut limits.download, rate),
            _ => {
                return Err(format!(
                    "line {number} is {:?}; it has to be \"upload SIZE\", \"download SIZE\", or \"none\" for SIZE",
                    printable::line(line)
                ));
            }
        };
        *direction = match rate {
            "none" => None,
            rate => Some(parse_rate(rate).map_err(|problem| format!("line {number}: {problem}"))?),
        };
    }
    Ok(limits)
}

/// Reads a size per second: `2MiB`.
///
/// # Errors
/// A text that says what is expected.
pub(crate) fn parse_rate(text: &str) -> Result<NonZeroU64, String> {
    NonZeroU64::new(parse_size(text)?).ok_or_else(|| "nothing would ever get through".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_whole_or_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("limits");
        let mut text = "# night\n".repeat(8191);
        text.push_str("upload 7");
        fs::write(&path, &text).unwrap();
        assert_eq!(read(&path).unwrap().upload, NonZeroU64::new(7));
        fs::write(&path, format!("#{text}")).unwrap();
        let refused = read(&path).unwrap_err().to_string();
        assert!(refused.contains("longer than 64 KiB"), "{refused}");
        let refused = read(folder.path()).unwrap_err().to_string();
        assert!(refused.contains("regular file"), "{refused}");
    }

    #[test]
    fn limits_are_read() {
        let limits = |upload, download| Limits {
            upload: NonZeroU64::new(upload),
            download: NonZeroU64::new(download),
        };
        for (text, expected) in [
            ("", limits(0, 0)),
            (
                "# night\nupload 2MiB\n\ndownload 64K\n",
                limits(2 << 20, 64 << 10),
            ),
            ("upload none\ndownload 7", limits(0, 7)),
        ] {
            assert_eq!(parse(text), Ok(expected), "{text}");
        }
        for (text, named) in [
            ("upload 1\nupload", "line 2"),
            ("sideways 1MiB", "sideways"),
            ("upload 0", "nothing would ever"),
            ("download fast", "line 1"),
        ] {
            let problem = parse(text).unwrap_err();
            assert!(problem.contains(named), "{problem}");
        }
    }
}

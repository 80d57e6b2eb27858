//! `s3-test-server`: the S3 server of the tests as a program, for scripts.
//!
//! ```text
//! s3-test-server [--listen ADDRESS:PORT] [--bucket NAME]... [--tls CA_FILE]
//! ```
//!
//! Keys come from `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY` and, for temporary ones, `AWS_SESSION_TOKEN`. With
//! `--tls`, the certificate of a new private authority is written to `CA_FILE`. When it listens it prints
//! `listening http://ADDRESS:PORT` to stdout; it ends by a signal, or when its stdin is a pipe that is closed.
//! Everything is in memory and gone with it.

use std::io::Read as _;
use std::os::unix::fs::FileTypeExt as _;
use std::path::PathBuf;
use std::process::ExitCode;

use stockpot_test_fixtures::s3::{Credentials, Server};
use stockpot_test_fixtures::tls::TestCa;

const USAGE: &str =
    "usage: s3-test-server [--listen ADDRESS:PORT] [--bucket NAME]... [--tls CA_FILE]";

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("{0}\n{USAGE}")]
    Usage(String),
    #[error("{name} is not set")]
    Unset { name: &'static str },
    #[error("cannot start: {0}")]
    Start(String),
}

struct Options {
    listen: Option<std::net::SocketAddr>,
    buckets: Vec<String>,
    ca_file: Option<PathBuf>,
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("s3-test-server: {failure}");
            ExitCode::from(if matches!(failure, Failure::Usage(_)) {
                2
            } else {
                1
            })
        }
    }
}

fn run() -> Result<(), Failure> {
    let options = parse(std::env::args().skip(1))?;
    let mut builder = Server::builder().credentials(credentials()?);
    if let Some(address) = options.listen {
        builder = builder.address(address);
    }
    for bucket in options.buckets {
        builder = builder.bucket(bucket);
    }
    if let Some(path) = options.ca_file {
        let ca = TestCa::new().map_err(|error| Failure::Start(error.to_string()))?;
        let written = std::fs::write(&path, ca.certificate_pem());
        written.map_err(|error| Failure::Start(format!("{}: {error}", path.display())))?;
        builder = builder.tls(ca);
    }
    let server = builder
        .start()
        .map_err(|error| Failure::Start(chain(&error)))?;
    println!("listening {}", server.endpoint());
    wait();
    drop(server);
    Ok(())
}

fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Options, Failure> {
    let mut options = Options {
        listen: None,
        buckets: Vec::new(),
        ca_file: None,
    };
    while let Some(argument) = arguments.next() {
        let mut value = || {
            arguments
                .next()
                .ok_or_else(|| Failure::Usage(format!("{argument} wants a value")))
        };
        match argument.as_str() {
            "--listen" => {
                let text = value()?;
                let address = text
                    .parse()
                    .map_err(|_| Failure::Usage(format!("not an address with a port: {text}")))?;
                options.listen = Some(address);
            }
            "--bucket" => options.buckets.push(value()?),
            "--tls" => options.ca_file = Some(value()?.into()),
            _ => return Err(Failure::Usage(format!("unknown argument {argument}"))),
        }
    }
    Ok(options)
}

#[expect(
    clippy::disallowed_methods,
    reason = "this is where the program's configuration is parsed"
)]
fn credentials() -> Result<Credentials, Failure> {
    let set = |name| {
        std::env::var(name)
            .ok()
            .filter(|value| !value.is_empty())
            .ok_or(Failure::Unset { name })
    };
    Ok(Credentials {
        access_key: set("AWS_ACCESS_KEY_ID")?,
        secret_key: set("AWS_SECRET_ACCESS_KEY")?.into(),
        session_token: set("AWS_SESSION_TOKEN").ok().map(Into::into),
    })
}

/// Waits for the end of stdin if that is a pipe, which closes when the script that holds it ends; otherwise for ever.
fn wait() {
    let is_pipe =
        std::fs::metadata("/dev/stdin").is_ok_and(|metadata| metadata.file_type().is_fifo());
    if is_pipe {
        let mut ignored = [0; 512];
        while std::io::stdin()
            .read(&mut ignored)
            .is_ok_and(|read| read > 0)
        {}
        return;
    }
    loop {
        std::thread::park();
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let sources = std::iter::successors(error.source(), |error| error.source());
    sources.fold(error.to_string(), |text, source| {
        format!("{text}: {source}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(arguments: &[&str]) -> Result<Options, Failure> {
        parse(arguments.iter().map(|argument| (*argument).to_owned()))
    }

    #[test]
    fn arguments() {
        let parsed = options(&[
            "--bucket",
            "a",
            "--listen",
            "127.0.0.1:9000",
            "--bucket",
            "b",
        ])
        .unwrap();
        assert_eq!(parsed.buckets, ["a", "b"]);
        assert_eq!(parsed.listen.unwrap().port(), 9000);
        for wrong in [&["--bucket"][..], &["--listen", "9000"], &["x"]] {
            assert!(matches!(options(wrong), Err(Failure::Usage(_))));
        }
    }
}

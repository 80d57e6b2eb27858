//! `stockpot pki …`: an authority for nodes, their certificates, and what is in one.

use std::{
    fs::{DirBuilder, OpenOptions},
    io::Write as _,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    time::SystemTime,
};

use anyhow::{Context as _, anyhow, bail, ensure};
use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use serde::Serialize;
use stockpot_driver::remote::CertificateFacts;
use stockpot_manager::config::is_node_name;
use time::{Duration, OffsetDateTime};
use zeroize::Zeroizing;

use crate::{
    cli::{Cli, PkiInitArgs, PkiIssueArgs, PkiShowArgs, PkiVerb},
    context,
    table::Table,
    usage::Usage,
};

const CA_CERTIFICATE: &str = "ca.pem";
const CA_KEY: &str = "ca.key";
const NODE_CERTIFICATE: &str = "node.pem";
const NODE_KEY: &str = "node.key";
/// Clocks differ.
const CLOCK_SKEW: Duration = Duration::hours(1);
const SECONDS_A_DAY: u64 = 24 * 3600;

/// What was made, as it is printed; the names stay.
#[derive(Debug, Serialize)]
struct Made {
    certificate: PathBuf,
    key: PathBuf,
    ca: PathBuf,
    not_after: Option<Timestamp>,
}

/// A certificate as it is printed; the names stay.
#[derive(Debug, Serialize)]
struct Shown {
    file: PathBuf,
    names: Vec<String>,
    subject: String,
    issuer: String,
    authority: bool,
    not_before: Option<Timestamp>,
    not_after: Option<Timestamp>,
    days_left: u64,
    /// Valid now, by its dates.
    valid: bool,
}

pub(super) fn run(cli: &Cli, verb: &PkiVerb) -> anyhow::Result<()> {
    match verb {
        PkiVerb::Init(args) => init(cli, args),
        PkiVerb::Issue(args) => issue(cli, args),
        PkiVerb::Show(args) => show(cli, args),
    }
}

fn init(cli: &Cli, args: &PkiInitArgs) -> anyhow::Result<()> {
    let mut params = lasting(args.days)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let name = &mut params.distinguished_name;
    name.push(DnType::CommonName, "Stockpot nodes");
    let key = KeyPair::generate().context("no key could be made")?;
    let certificate = params
        .self_signed(&key)
        .context("no certificate could be made")?;
    make_directory(&args.dir)?;
    let (at, key_at) = (args.dir.join(CA_CERTIFICATE), args.dir.join(CA_KEY));
    not_there(
        [key_at.as_path(), at.as_path()],
        "there is an authority already, and nodes may have its certificates: `stockpot pki issue` makes more of them; for another \
         authority give --dir another directory",
    )?;
    write_pair(&at, &certificate.pem(), &key_at, &key)?;
    say(cli, at.clone(), key_at, at)
}

fn issue(cli: &Cli, args: &PkiIssueArgs) -> anyhow::Result<()> {
    check_node(&args.node)?;
    let ca_at = args.dir.join(CA_CERTIFICATE);
    let (ca, facts) = read(&ca_at)?;
    let key = KeyPair::from_pem(&read_key(&args.dir.join(CA_KEY))?)
        .map_err(|_| anyhow!("{} holds no key", args.dir.join(CA_KEY).display()))?;
    let issuer = Issuer::from_ca_cert_pem(&ca, key)
        .with_context(|| format!("{} is no authority", ca_at.display()))?;
    let mut params = lasting(args.days)?;
    let ends = OffsetDateTime::from(facts.not_after);
    ensure!(
        params.not_after <= ends,
        "the authority lasts until {ends}, less than {} days: fewer --days, or a new authority",
        args.days
    );
    params.subject_alt_names = CertificateParams::new(vec![args.node.clone()])
        .context("that cannot be a node's name")?
        .subject_alt_names;
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    // A node calls others and answers them.
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    let name = &mut params.distinguished_name;
    name.push(DnType::CommonName, args.node.as_str());
    let key = KeyPair::generate().context("no key could be made")?;
    let certificate = params
        .signed_by(&key, &issuer)
        .context("no certificate could be made")?;
    make_directory(&args.out)?;
    let ca_copy = args.out.join(CA_CERTIFICATE);
    if ca_copy.exists() {
        let (there, _) = read(&ca_copy)?;
        ensure!(
            there == ca,
            "{} is another authority's certificate: give --out a directory without it",
            ca_copy.display()
        );
    }
    let (at, key_at) = (args.out.join(NODE_CERTIFICATE), args.out.join(NODE_KEY));
    not_there(
        [key_at.as_path(), at.as_path()],
        "there is a node's certificate already: to renew it give --out a new directory, and put what is in there in the place of \
         the files on the node",
    )?;
    write_pair(&at, &certificate.pem(), &key_at, &key)?;
    if !ca_copy.exists() {
        write_new(&ca_copy, ca.as_bytes(), 0o644)?;
    }
    say(cli, at, key_at, ca_copy)
}

fn show(cli: &Cli, args: &PkiShowArgs) -> anyhow::Result<()> {
    let mut rows = Vec::new();
    for file in &args.files {
        let (_, facts) = read(file)?;
        let now = SystemTime::now();
        rows.push(Shown {
            file: file.clone(),
            valid: facts.not_before <= now && now < facts.not_after,
            days_left: facts.left().as_secs() / SECONDS_A_DAY,
            not_before: Timestamp::try_from(facts.not_before).ok(),
            not_after: Timestamp::try_from(facts.not_after).ok(),
            names: facts.names,
            subject: facts.subject,
            issuer: facts.issuer,
            authority: facts.is_authority,
        });
    }
    context::print(cli.output, &rows, || {
        let mut table = Table::new(["FILE", "NODE", "ISSUER", "UNTIL", "DAYS LEFT"]);
        for row in &rows {
            let whose = if row.authority {
                "(authority)".to_owned()
            } else {
                row.names.join(", ")
            };
            table.row([
                row.file.display().to_string(),
                whose,
                row.issuer.clone(),
                row.not_after.map(|t| t.to_string()).unwrap_or_default(),
                row.days_left.to_string(),
            ]);
        }
        table.to_string()
    })?;
    match rows.iter().find(|row| !row.valid) {
        None => Ok(()),
        Some(row) if row.days_left == 0 => bail!("{} has expired", row.file.display()),
        Some(row) => bail!("{} is not valid yet", row.file.display()),
    }
}

fn say(cli: &Cli, certificate: PathBuf, key: PathBuf, ca: PathBuf) -> anyhow::Result<()> {
    let (_, facts) = read(&certificate)?;
    let made = Made {
        certificate,
        key,
        ca,
        not_after: Timestamp::try_from(facts.not_after).ok(),
    };
    context::print(cli.output, &made, || {
        format!(
            "made {} and {}, good until {}\n",
            made.certificate.display(),
            made.key.display(),
            made.not_after.map(|t| t.to_string()).unwrap_or_default()
        )
    })
}

/// A certificate from now on.
fn lasting(days: u32) -> anyhow::Result<CertificateParams> {
    let now = OffsetDateTime::now_utc();
    let mut params = CertificateParams::new(Vec::<String>::new())?;
    params.not_before = now - CLOCK_SKEW;
    params.not_after = now + Duration::days(days.into());
    params.distinguished_name = rcgen::DistinguishedName::new();
    Ok(params)
}

/// A node's name stands in its certificate as a DNS name, and nowhere is one taken for another.
fn check_node(name: &str) -> anyhow::Result<()> {
    if is_node_name(name) {
        return Ok(());
    }
    Err(Usage::new(format!(
        "{name:?} cannot stand in a certificate: a node's name has letters, digits, '-' and '.'"
    ))
    .into())
}

fn read(path: &Path) -> anyhow::Result<(String, CertificateFacts)> {
    let pem =
        std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let facts = CertificateFacts::of_pem(pem.as_bytes())
        .map_err(|problem| anyhow!("{} cannot be used: {problem}", path.display()))?;
    Ok((pem, facts))
}

fn read_key(path: &Path) -> anyhow::Result<Zeroizing<String>> {
    let mode = std::fs::metadata(path).map(|meta| meta.permissions().mode());
    if mode.is_ok_and(|mode| mode & 0o007 != 0) {
        bail!(
            "{} can be read by every user of this machine: chmod 600 it, and think of who may have read it",
            path.display()
        );
    }
    let read = std::fs::read_to_string(path);
    let text = read.with_context(|| format!("cannot read {}", path.display()))?;
    Ok(Zeroizing::new(text))
}

/// Refuses to overwrite, and says what to do instead.
fn not_there(files: [&Path; 2], what_to_do: &str) -> anyhow::Result<()> {
    match files.into_iter().find(|file| file.exists()) {
        Some(file) => bail!("{} is there: {what_to_do}", file.display()),
        None => Ok(()),
    }
}

fn make_directory(path: &Path) -> anyhow::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .with_context(|| format!("cannot make {}", path.display()))
}

/// Writes both or none; the key first, which is the one that must not be overwritten.
fn write_pair(
    certificate_at: &Path,
    certificate: &str,
    key_at: &Path,
    key: &KeyPair,
) -> anyhow::Result<()> {
    let pem = Zeroizing::new(key.serialize_pem());
    write_new(key_at, pem.as_bytes(), 0o600)?;
    let written = write_new(certificate_at, certificate.as_bytes(), 0o644);
    if written.is_err() {
        std::fs::remove_file(key_at)
            .with_context(|| format!("cannot remove {}", key_at.display()))?;
    }
    written
}

fn write_new(path: &Path, content: &[u8], mode: u32) -> anyhow::Result<()> {
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
        .and_then(|mut file| {
            file.write_all(content)?;
            file.sync_all()
        });
    written.with_context(|| format!("cannot write {}", path.display()))
}

//! Profiles made, changed and removed by calls: files in the folder like any other.
//!
//! A file is written under a hidden name and moved, so that a reader, or a crash, finds the old one or the new one. What
//! was made by a call has an id; it stays whatever the profile's name becomes.

use std::{
    fs, io,
    io::Write as _,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::PoisonError,
};

use jiff::Timestamp;
use serde_json::{Map, Value};
use ulid::Ulid;

use super::{
    Profile, ProfileError, Profiles,
    files::{FILE_SIZE_MAX, parse_text},
    model::{Lock, Topology},
    vetted,
};

/// Most profiles that calls may make.
const PROFILES_MAX: usize = 1000;
/// Largest document of a call, in bytes: the most of them together still fit into one answer.
const DOCUMENT_SIZE_MAX: usize = 16 << 10;
/// Largest text that is written, in bytes: with what we put into it, it has to be read again.
const WRITTEN_SIZE_MAX: u64 = FILE_SIZE_MAX - 1024;
/// What is written into each of them, besides what the caller says.
const OURS: [&str; 3] = ["id", "createdAt", "updatedAt"];

/// A profile, and its file's content.
#[derive(Debug, Clone)]
pub struct ProfileText {
    /// The file.
    pub path: PathBuf,
    /// Made with it; of one that somebody wrote by hand its name.
    pub id: String,
    /// What it says, as it is read.
    pub profile: Profile,
    /// What it says, as it is written.
    pub fields: Map<String, Value>,
}

impl ProfileText {
    /// What it says, as JSON.
    #[must_use]
    pub fn document(&self) -> String {
        Value::Object(self.fields.clone()).to_string()
    }
}

/// A change that has been found to be sound, and not been made.
#[derive(Debug, Clone)]
pub struct Change {
    /// What is there.
    pub before: ProfileText,
    /// What will be there.
    pub after: ProfileText,
}

impl Profiles {
    /// Every profile that can be read, by name, with its content.
    ///
    /// # Errors
    /// `Read` if the folder cannot be listed.
    pub fn texts(&self) -> Result<Vec<ProfileText>, ProfileError> {
        let mut texts = Vec::new();
        for (path, parsed) in self.read()? {
            // One that goes or breaks while it is looked at is left out like any that cannot be read.
            if let (Ok(profile), Ok(text)) = (parsed, fs::read_to_string(&path))
                && let Ok(fields) = serde_saphyr::from_str::<Map<String, Value>>(&text)
            {
                texts.push(ProfileText {
                    id: id_in(&fields).unwrap_or(&profile.name).to_owned(),
                    path,
                    profile: Profile::clone(&profile),
                    fields,
                });
            }
        }
        texts.sort_by(|a, b| a.profile.name.cmp(&b.profile.name));
        Ok(texts)
    }

    /// One of them, by its id or name.
    ///
    /// # Errors
    /// `Read` if the folder cannot be listed.
    pub fn text(&self, which: &str) -> Result<Option<ProfileText>, ProfileError> {
        let texts = self.texts()?;
        let by_id = texts.iter().position(|text| text.id == which);
        let found = by_id.or_else(|| texts.iter().position(|text| text.profile.name == which));
        Ok(found.and_then(|index| texts.into_iter().nth(index)))
    }

    /// Writes a new profile; one that says the same under the same name is answered as it is.
    ///
    /// # Errors
    /// `Refused`, `Exists`, `TooMany`; `Write` if the file cannot be written. Nothing is left of it then.
    pub fn create(&self, document: &str) -> Result<ProfileText, ProfileError> {
        let (profile, mut fields) = self.vet(document, None, &[])?;
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let texts = self.texts()?;
        if let Some(there) = texts.iter().find(|text| text.profile.name == profile.name) {
            return match without_ours(&there.fields) == without_ours(&fields) {
                true => Ok(there.clone()),
                false => Err(ProfileError::Exists { name: profile.name }),
            };
        }
        if texts.len() >= PROFILES_MAX {
            return Err(ProfileError::TooMany { most: PROFILES_MAX });
        }
        let id = new_id();
        let now = now();
        fields.insert("id".to_owned(), id.clone().into());
        fields.insert("createdAt".to_owned(), now.clone().into());
        fields.insert("updatedAt".to_owned(), now.into());
        let path = self.path_for(&profile.name, &id);
        write(&path, &fields)?;
        Ok(self.told(path, id, profile, fields))
    }

    /// What a document would make of a profile; nothing is changed yet. `None` when there is no such profile.
    ///
    /// # Errors
    /// `Refused`, also where it says what only the file may say; `Linked`, and `Exists` where it takes another one's name.
    pub fn plan(&self, which: &str, document: &str) -> Result<Option<Change>, ProfileError> {
        let Some(before) = self.text(which)? else {
            return Ok(None);
        };
        refuse_link(&before.path)?;
        // What an administrator wrote by hand may stay.
        let text = Value::Object(before.fields.clone()).to_string();
        let written = parse_text(&text).map_err(|problem| ProfileError::Refused { problem })?;
        let named_already = vetted::files_of(&written);
        let (profile, mut fields) = self.vet(document, Some(&before.fields), &named_already)?;
        refuse_what_is_the_administrators(&before, &written, &profile)?;
        let is_taken =
            |text: &ProfileText| text.profile.name == profile.name && text.path != before.path;
        if self.texts()?.iter().any(is_taken) {
            return Err(ProfileError::Exists { name: profile.name });
        }
        for name in OURS {
            match before.fields.get(name) {
                Some(value) => fields.insert(name.to_owned(), value.clone()),
                None => fields.remove(name),
            };
        }
        let is_same = without_ours(&before.fields) == without_ours(&fields);
        if !is_same {
            fields.insert("updatedAt".to_owned(), now().into());
        }
        let id = id_in(&fields).unwrap_or(&profile.name).to_owned();
        let after = self.told(before.path.clone(), id, profile, fields);
        Ok(Some(Change { before, after }))
    }

    /// Makes a change, if what it was planned for is still so.
    ///
    /// # Errors
    /// `Changed`, and `Exists` where another one took the name meanwhile; `Write` if the file cannot be written; it is as it was then.
    pub fn carry_out(&self, change: Change) -> Result<ProfileText, ProfileError> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        refuse_link(&change.before.path)?;
        let name = &change.after.profile.name;
        let (own, others): (Vec<_>, Vec<_>) = self
            .texts()?
            .into_iter()
            .partition(|text| text.path == change.before.path);
        if !own.iter().any(|text| text.fields == change.before.fields) {
            let name = change.before.profile.name;
            return Err(ProfileError::Changed { name });
        }
        if others.iter().any(|text| text.profile.name == *name) {
            return Err(ProfileError::Exists { name: name.clone() });
        }
        if change.before.fields != change.after.fields {
            write(&change.after.path, &change.after.fields)?;
        }
        Ok(change.after)
    }

    /// Removes a profile's file. One that is not there is success.
    ///
    /// # Errors
    /// `Linked`; `Write` if the file cannot be removed.
    pub fn remove(&self, text: &ProfileText) -> Result<(), ProfileError> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let failed = |source| ProfileError::Write {
            path: text.path.clone(),
            source,
        };
        refuse_link(&text.path)?;
        match fs::remove_file(&text.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(error)),
            _ => sync_folder(&text.path).map_err(failed),
        }
    }

    /// What a caller wrote, if it may be taken. Files that are named already may be named again, commands that are there may stay.
    fn vet(
        &self,
        document: &str,
        before: Option<&Map<String, Value>>,
        named_already: &[&PathBuf],
    ) -> Result<(Profile, Map<String, Value>), ProfileError> {
        let refused = |problem: String| ProfileError::Refused { problem };
        if document.len() > DOCUMENT_SIZE_MAX {
            let problem = format!("it is larger than {DOCUMENT_SIZE_MAX} bytes");
            return Err(refused(problem));
        }
        let fields: Map<String, Value> = serde_json::from_str(document)
            .map_err(|error| refused(format!("it is no JSON object: {error}")))?;
        if let Some(name) = vetted::secret_in(&fields) {
            let problem = format!(
                "{name}: no secret is taken; put it into a file in {} and name that",
                self.files_dir.display()
            );
            return Err(refused(problem));
        }
        let commands = vetted::commands_in(&fields);
        if commands.iter().any(Option::is_some) && before.map(vetted::commands_in) != Some(commands)
        {
            let problem = "snapshotProperties.quiesce: commands are taken from files that somebody wrote on this host, not from calls";
            return Err(refused(problem.to_owned()));
        }
        // By the types of JSON, and as the file will be read.
        serde_json::from_value::<Profile>(Value::Object(fields.clone()))
            .map_err(|error| refused(error.to_string()))?;
        let text = Value::Object(fields.clone()).to_string();
        let profile = parse_text(&text).map_err(refused)?;
        if profile.name.chars().any(char::is_control) {
            return Err(refused("name: has control characters".to_owned()));
        }
        for file in vetted::files_of(&profile) {
            if !vetted::lies_in(file, &self.files_dir) && !named_already.contains(&file) {
                let problem = format!(
                    "{}: a file that a call names has to lie in {}",
                    file.display(),
                    self.files_dir.display()
                );
                return Err(refused(problem));
            }
        }
        let written = pretty(&fields).map_err(|error| refused(error.to_string()))?;
        if written.len() as u64 > WRITTEN_SIZE_MAX {
            let problem =
                format!("as a file it would be larger than {WRITTEN_SIZE_MAX} bytes; nest less");
            return Err(refused(problem));
        }
        Ok((profile, fields))
    }

    fn told(
        &self,
        path: PathBuf,
        id: String,
        mut profile: Profile,
        fields: Map<String, Value>,
    ) -> ProfileText {
        profile.resolve(&self.files_dir);
        ProfileText {
            path,
            id,
            profile,
            fields,
        }
    }

    /// A file called after the profile where that can be, so that people find it; else after its id.
    fn path_for(&self, name: &str, id: &str) -> PathBuf {
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        let is_plain = name.len() <= 100 && name.bytes().all(plain) && !name.starts_with('.');
        let is_free = ["json", "yaml", "yml"].into_iter().all(|extension| {
            let path = self.dir.join(format!("{name}.{extension}"));
            is_plain && fs::symlink_metadata(path).is_err()
        });
        let stem = if is_free { name } else { id };
        self.dir.join(format!("{stem}.json"))
    }
}

fn id_in(fields: &Map<String, Value>) -> Option<&str> {
    let id = fields.get("id").and_then(Value::as_str);
    id.filter(|id| !id.is_empty())
}

fn without_ours(fields: &Map<String, Value>) -> Map<String, Value> {
    let said = fields
        .iter()
        .filter(|(name, _)| !OURS.contains(&name.as_str()));
    said.map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

/// Where the copies of a hand-written profile go, and how long any profile's copies cannot be deleted, is said in files alone.
fn refuse_what_is_the_administrators(
    before: &ProfileText,
    written: &Profile,
    asked: &Profile,
) -> Result<(), ProfileError> {
    let refused = |what: &str| {
        let path = before.path.display();
        Err(ProfileError::Refused {
            problem: format!("{what} is not changed by calls: edit {path}"),
        })
    };
    let (was, is) = (topology_of(written), topology_of(asked));
    if id_in(&before.fields).is_none() && was != is {
        return refused("snapshotProperties.topology: the profile was written by hand, and this");
    }
    if lock_of(was) != lock_of(is) {
        return refused("snapshotProperties.topology.lock:");
    }
    Ok(())
}

fn topology_of(profile: &Profile) -> Option<&Topology> {
    profile.snapshot_properties.as_ref()?.topology.as_ref()
}

fn lock_of(topology: Option<&Topology>) -> Option<Lock> {
    topology.and_then(|topology| topology.lock)
}

fn refuse_link(path: &Path) -> Result<(), ProfileError> {
    match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_symlink() => Err(ProfileError::Linked {
            path: path.to_owned(),
        }),
        _ => Ok(()),
    }
}

/// As OpenSDS writes times: UTC, to the second, without a zone.
fn now() -> String {
    Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S").to_string()
}

/// A UUID of version 7 (RFC 9562, section 5.7): its first 48 bits are the time in milliseconds, as a ULID's are.
fn new_id() -> String {
    let mut bytes = Ulid::generate().to_bytes();
    bytes[6] = (bytes[6] & 0x0f) | 0x70;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    let mut id = String::with_capacity(36);
    for (index, byte) in bytes.iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            id.push('-');
        }
        id.push_str(&format!("{byte:02x}"));
    }
    id
}

/// As it stands in the file.
fn pretty(fields: &Map<String, Value>) -> serde_json::Result<String> {
    serde_json::to_string_pretty(fields).map(|text| text + "\n")
}

/// Under a hidden name, which no reader looks at, then in one step under its own.
fn write(path: &Path, fields: &Map<String, Value>) -> Result<(), ProfileError> {
    let failed = |source| ProfileError::Write {
        path: path.to_owned(),
        source,
    };
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(failed(io::ErrorKind::InvalidInput.into()));
    };
    fs::create_dir_all(folder).map_err(failed)?;
    let hidden = folder.join(format!(".{}.new", name.to_string_lossy()));
    let text = pretty(fields).map_err(|error| failed(error.into()))?;
    let written = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o640)
        .open(&hidden)
        .and_then(|mut file| {
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::rename(&hidden, path)?;
            sync_folder(path)
        });
    if written.is_err() {
        // What is left under the hidden name is overwritten by the next one in any case.
        let _ = fs::remove_file(&hidden);
    }
    written.map_err(failed)
}

/// So that a new name survives a power cut.
fn sync_folder(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(folder) => fs::File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;

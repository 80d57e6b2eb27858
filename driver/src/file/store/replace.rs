//! A volume that takes another one's place: both directories change names with each other, in one step.
//!
//! Before that step the new one's `meta.json` says what it is as soon as it lies in the other place. After it the old content lies
//! where the new one was made, says that it is somebody else, and is debris: removed by the same call, by the next one, or by the
//! next check.

use std::{
    fs::{File, OpenOptions},
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};

use super::{META, Store, fail, sync_directory};
use crate::{DriverError, VolumeId, file::meta::Meta, name::Name};

impl Store {
    /// Lets `with` take the place of `id`; done before with the same two, it is success. Under the lock.
    pub(in crate::file) fn replace(
        &self,
        id: &VolumeId,
        with: &VolumeId,
    ) -> Result<(), DriverError> {
        let (old, new) = (Name::Volume(id.clone()), Name::Volume(with.clone()));
        let there = self.find(&old)?.ok_or_else(|| old.not_found())?;
        if there.meta.replaced() != Some(with) {
            let entry = self.find(&new)?.ok_or_else(|| new.not_found())?;
            if entry.size_bytes < there.size_bytes {
                return Err(DriverError::OutOfRange(format!(
                    "{new} of {} bytes cannot take the place of {old} of {}",
                    entry.size_bytes, there.size_bytes
                )));
            }
            let (place, other) = (self.place(&old), self.place(&new));
            write_meta(&other, &entry.meta.becoming(id))?;
            exchange(&other, &place)?;
            sync_directory(place.parent().unwrap_or(&self.root))?;
        }
        self.finish(id, with)
    }

    /// What is left to do after the step.
    fn finish(&self, id: &VolumeId, with: &VolumeId) -> Result<(), DriverError> {
        let other = self.place(&Name::Volume(with.clone()));
        if let Some(Meta::Volume { id: found, .. }) = Meta::read(&other.join(META))?
            && found == *id
        {
            self.discard(&other)?;
        }
        let name = Name::Volume(id.clone());
        let place = self.place(&name);
        match Meta::read(&place.join(META))? {
            Some(
                raw @ Meta::Volume {
                    becomes: Some(_), ..
                },
            ) => match raw.in_place_of(&name) {
                Some(meta) => write_meta(&place, &meta),
                None => Ok(()),
            },
            _ => Ok(()),
        }
    }

    /// Removes what volumes held before they were replaced. Under the lock.
    pub(super) fn clear_replaced(&self) -> Result<(), DriverError> {
        for entry in self.list()? {
            let Meta::Volume {
                id,
                replaced: Some(with),
                ..
            } = &entry.meta
            else {
                continue;
            };
            self.finish(id, with)?;
        }
        Ok(())
    }
}

/// Lets two directories change names with each other.
fn exchange(one: &Path, other: &Path) -> Result<(), DriverError> {
    renameat2(AT_FDCWD, one, AT_FDCWD, other, RenameFlags::RENAME_EXCHANGE)
        .map_err(|errno| fail("cannot exchange with another directory", other)(errno.into()))
}

/// Writes the `meta.json` of a directory anew: it is the old one or the new one at each moment.
fn write_meta(place: &Path, meta: &Meta) -> Result<(), DriverError> {
    let (path, hidden) = (place.join(META), place.join(".meta.json.new"));
    let text = meta.to_text().map_err(fail("cannot write", &path))?;
    let open = || -> std::io::Result<File> {
        OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&hidden)
    };
    open()
        .and_then(|mut file| {
            file.write_all(&text)?;
            file.sync_all()?;
            std::fs::rename(&hidden, &path)
        })
        .map_err(fail("cannot write", &path))?;
    sync_directory(place)
}

#[cfg(test)]
mod tests {
    use super::{
        super::tests::{fill, store, volume},
        *,
    };

    fn id(text: &str) -> VolumeId {
        text.parse().unwrap()
    }

    fn content(store: &Store, text: &str) -> Option<Vec<u8>> {
        let entry = store.find(&Name::Volume(id(text))).unwrap()?;
        Some(std::fs::read(entry.image).unwrap())
    }

    fn make(store: &Store, text: &str, byte: u8) {
        let fill = |image: &File| {
            std::os::unix::fs::FileExt::write_all_at(image, &[byte; 8192], 0)
                .map_err(fail("cannot write", Path::new("image")))
        };
        store.make(&volume(text), fill).unwrap();
    }

    #[test]
    fn one_takes_the_place_of_the_other_and_that_again() {
        let (_directory, store) = store();
        make(&store, "a", 1);
        for (with, byte) in [("t1", 2), ("t2", 3)] {
            make(&store, with, byte);
            for _ in 0..2 {
                store.replace(&id("a"), &id(with)).unwrap();
                assert_eq!(content(&store, "a"), Some(vec![byte; 8192]));
                assert_eq!(content(&store, with), None);
            }
            assert_eq!(store.list().unwrap().len(), 1);
        }
        let refused = store.replace(&id("a"), &id("t1")).unwrap_err();
        assert!(matches!(refused, DriverError::NotFound { .. }), "{refused}");
        store.remove(&Name::Volume(id("a"))).unwrap();
        let left = std::fs::read_dir(store.root().join("volumes")).unwrap();
        assert_eq!(left.count(), 0);
    }

    /// Killed before the step, and after it.
    #[test]
    fn it_is_the_one_or_the_other() {
        let (_directory, store) = store();
        make(&store, "a", 1);
        make(&store, "t", 2);
        let (a, t) = (Name::Volume(id("a")), Name::Volume(id("t")));
        let (place, other) = (store.place(&a), store.place(&t));
        let meta = store.find(&t).unwrap().unwrap().meta;
        write_meta(&other, &meta.becoming(&id("a"))).unwrap();
        store.prepare().unwrap();
        assert_eq!(content(&store, "a"), Some(vec![1; 8192]));
        assert_eq!(content(&store, "t"), Some(vec![2; 8192]));
        exchange(&other, &place).unwrap();
        assert_eq!(content(&store, "a"), Some(vec![2; 8192]));
        assert_eq!(content(&store, "t"), None);
        assert_eq!(store.list().unwrap().len(), 1);
        store.prepare().unwrap();
        assert!(!other.exists());
        store.replace(&id("a"), &id("t")).unwrap();
        assert_eq!(content(&store, "a"), Some(vec![2; 8192]));
    }

    #[test]
    fn a_smaller_one_takes_no_place() {
        let (_directory, store) = store();
        make(&store, "a", 1);
        store
            .make(&volume("t"), |image| {
                image
                    .set_len(4096)
                    .map_err(fail("cannot size", Path::new("t")))
            })
            .unwrap();
        let refused = store.replace(&id("a"), &id("t")).unwrap_err();
        assert!(matches!(refused, DriverError::OutOfRange(_)), "{refused}");
        let refused = store.replace(&id("b"), &id("t")).unwrap_err();
        assert!(matches!(refused, DriverError::NotFound { .. }), "{refused}");
        store.make(&volume("c"), fill).unwrap();
        assert_eq!(store.list().unwrap().len(), 3);
    }
}

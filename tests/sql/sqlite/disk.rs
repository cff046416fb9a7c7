//! A small disk for the files of a store.

use std::fs::File;
use std::ops::Deref;
use std::path::{Path, PathBuf};

use crate::disk;

/// A file system that is mounted until the test ends.
pub(crate) struct Disk(disk::Disk);

impl Disk {
    /// Mounts a file system in memory of this many MiB, if this process may do so.
    pub(crate) fn of(mebibytes: u32) -> Option<Self> {
        disk::Disk::of(mebibytes).map(Self)
    }

    /// Mounts the same files once more, to be read only.
    pub(crate) fn read_only(&self) -> Self {
        let folder = self.folder().to_str().unwrap();
        Self(disk::Disk::mounted(&["-o", "bind,ro", folder]).unwrap())
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.folder().join("idempotency.db")
    }

    /// Waits until the last connection has closed, which removes the log.
    pub(crate) async fn must_close(&self) {
        let log = self.path().with_extension("db-wal");
        while log.exists() {
            tokio::task::yield_now().await;
        }
    }

    /// Returns the size of a file of the store, by what its name ends in.
    pub(crate) fn size_of(&self, suffix: &str) -> u64 {
        disk::size(Path::new(&format!("{}{suffix}", self.path().display())))
    }

    /// Describes the files of the store.
    pub(crate) fn state(&self) -> String {
        let size = |suffix| self.size_of(suffix) / 1024;
        let [file, log, reserve] = ["", "-wal", "-reserve"].map(size);
        format!("file {file} KiB, log {log} KiB, reserve {reserve} KiB")
    }
}

impl Deref for Disk {
    type Target = disk::Disk;

    fn deref(&self) -> &disk::Disk {
        &self.0
    }
}

/// A disk that promises more room than there is behind it: when that is used up, its writes fail by
/// `EIO`.
pub(crate) struct Thin {
    disk: Disk,
    behind: Disk,
}

impl Thin {
    /// Mounts such a disk, if this process may do so.
    pub(crate) fn new() -> Option<Self> {
        let behind = Disk::of(24)?;
        let image = behind.path();
        File::create(&image).unwrap().set_len(64 << 20).unwrap();
        let image = image.to_str().unwrap();
        // Without a journal, which would make the first error one for ever.
        if !disk::run("/usr/sbin/mkfs.ext4", &["-q", "-O", "^has_journal", image]) {
            return None;
        }
        let disk = Disk(disk::Disk::mounted(&["-o", "loop", image])?);
        Some(Self { disk, behind })
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.disk.path()
    }

    pub(crate) fn fail(&self) {
        self.behind.fill();
    }

    pub(crate) fn work(&self) {
        self.behind.drain();
    }
}

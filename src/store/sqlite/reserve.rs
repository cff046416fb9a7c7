//! Room on the disk that is kept for those steps that make room, or that end what runs.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A file beside the database that takes room until a disk is full, and then gives it back.
///
/// Removing rows needs room, too: it appends to the write-ahead log, and the log starts over only
/// when all of its pages are in the database's file, which may have to grow for that. A full disk
/// would thus stay full for ever. The log holds no more than a half of the reserve, so each half is
/// enough for the file to grow by.
///
/// The length of the file says to all processes how much is left.
#[derive(Clone)]
pub(super) struct Reserve(Option<Arc<PathBuf>>);

impl Reserve {
    /// A reserve for the database at a path. A database in memory has none.
    pub(super) fn beside(database: &Path) -> Self {
        let is_file = !database.as_os_str().is_empty() && database != Path::new(":memory:");
        Self(is_file.then(|| {
            let mut path = OsString::from(database);
            path.push("-reserve");
            Arc::new(path.into())
        }))
    }

    /// No reserve.
    pub(super) fn none() -> Self {
        Self(None)
    }

    /// Returns how much of it is left. A reserve that was never made is whole.
    pub(super) fn left(&self) -> Left {
        let length = self.0.as_ref().map(|path| fs::metadata(&**path));
        match length {
            Some(Ok(file)) if file.len() < HALF => Left::Nothing,
            Some(Ok(file)) if file.len() < SIZE => Left::Half,
            _ => Left::Whole,
        }
    }

    /// Gives back all but what is to be `left`.
    pub(super) fn use_up(&self, left: u64) {
        let Some(path) = &self.0 else { return };
        // A reserve that can't be opened stays as it is, and the step fails as it did before.
        if let Ok(file) = File::options().write(true).open(&**path) {
            cut(&file, left);
        }
    }

    /// Takes back what was given, or as many halves as there is room for.
    ///
    /// Writes to the disk, so call it where that is allowed.
    pub(super) fn restore(&self) {
        let Some(path) = &self.0 else { return };
        let is_new = !path.exists();
        if is_new || self.left() != Left::Whole {
            let written = File::options().append(true).create(true).open(&**path);
            let is_whole = written.and_then(fill).unwrap_or(false);
            if is_new && !is_whole {
                // Without a reserve, what little room there is goes to requests.
                let _ = fs::remove_file(&**path);
            }
        }
    }
}

/// How much of a reserve there still is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Left {
    Nothing,
    Half,
    Whole,
}

/// Appends until the file is whole, or gives back what is not a half.
///
/// Appending leaves no hole when another process cuts or fills the file at the same time.
fn fill(mut file: File) -> io::Result<bool> {
    let mut noise = Noise(0x9e37_79b9_7f4a_7c15);
    let mut block = [0; 64 * 1024];
    while file.metadata()?.len() < SIZE {
        noise.fill(&mut block);
        if file.write_all(&block).is_err() {
            let length = file.metadata()?.len();
            cut(&file, if length >= HALF { HALF } else { 0 });
            return Ok(false);
        }
    }
    cut(&file, SIZE);
    Ok(true)
}

fn cut(file: &File, length: u64) {
    if file.metadata().is_ok_and(|file| file.len() > length) {
        // What fails here leaves the disk as full as it is.
        let _ = file.set_len(length);
    }
}

/// Bytes that no file system stores in less room.
struct Noise(u64);

impl Noise {
    fn fill(&mut self, block: &mut [u8]) {
        for word in block.chunks_exact_mut(8) {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            word.copy_from_slice(&self.0.to_ne_bytes());
        }
    }
}

/// The size of a reserve that is whole.
const SIZE: u64 = 2 * HALF;

/// What steps of a running request leave to those that remove rows.
pub(super) const HALF: u64 = 4 * 1024 * 1024;

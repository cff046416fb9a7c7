//! A small disk of a test's own.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

/// A file system that is mounted until the test ends.
pub(crate) struct Disk(TempDir);

/// A disk that promises more room than there is behind it: when that is used up, its writes fail by
/// `EIO`.
pub(crate) struct Thin {
    disk: Disk,
    behind: Disk,
}

impl Disk {
    /// Mounts a file system in memory of this many MiB, if this process may do so.
    pub(crate) fn of(mebibytes: u32) -> Option<Self> {
        let size = format!("size={mebibytes}m");
        Self::mounted(&["-t", "tmpfs", "-o", &size, "tmpfs"])
    }

    /// Mounts the same files once more, to be read only.
    pub(crate) fn read_only(&self) -> Self {
        let folder = self.0.path().to_str().unwrap();
        Self::mounted(&["-o", "bind,ro", folder]).unwrap()
    }

    fn mounted(arguments: &[&str]) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_str().unwrap();
        run("mount", &[arguments, &[path]].concat()).then(|| Self(folder))
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.0.path().join("idempotency.db")
    }

    /// Takes all the room that is left, by a file that grows until the disk is full.
    pub(crate) fn fill(&self) -> u64 {
        let path = self.0.path().join("other");
        let mut file = File::options()
            .append(true)
            .create(true)
            .open(&path)
            .unwrap();
        while file.write(&[1; 4096]).is_ok_and(|written| written > 0) {}
        size(&path)
    }

    /// Gives back what `fill` has taken.
    pub(crate) fn drain(&self) {
        fs::remove_file(self.0.path().join("other")).unwrap();
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
        size(Path::new(&format!("{}{suffix}", self.path().display())))
    }

    /// Describes the files of the store.
    pub(crate) fn state(&self) -> String {
        let size = |suffix| self.size_of(suffix) / 1024;
        let [file, log, reserve] = ["", "-wal", "-reserve"].map(size);
        format!("file {file} KiB, log {log} KiB, reserve {reserve} KiB")
    }
}

impl Thin {
    /// Mounts such a disk, if this process may do so.
    pub(crate) fn new() -> Option<Self> {
        let behind = Disk::of(24)?;
        let image = behind.path();
        File::create(&image).unwrap().set_len(64 << 20).unwrap();
        let image = image.to_str().unwrap();
        // Without a journal, which would make the first error one for ever.
        if !run("/usr/sbin/mkfs.ext4", &["-q", "-O", "^has_journal", image]) {
            return None;
        }
        let disk = Disk::mounted(&["-o", "loop", image])?;
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

impl Drop for Disk {
    fn drop(&mut self) {
        run("umount", &["-l", self.0.path().to_str().unwrap()]);
    }
}

/// Says what this machine does not allow a test to do.
pub(crate) fn left_out(what: &str, why: &str) {
    let line = format!("\nLEFT OUT: {what}: {why}\n");
    // Not `eprintln!`, whose output is shown for a test that fails only.
    std::io::stderr().write_all(line.as_bytes()).unwrap();
}

fn size(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |file| file.len())
}

fn run(program: &str, arguments: &[&str]) -> bool {
    let mut command = Command::new(program);
    command.args(arguments).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

//! A small disk of a test's own.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use tempfile::TempDir;

/// A file system that is mounted until the test ends.
pub(crate) struct Disk(TempDir);

impl Disk {
    /// Mounts a file system in memory of this many MiB, if this process may do so.
    pub(crate) fn of(mebibytes: u32) -> Option<Self> {
        let size = format!("size={mebibytes}m");
        Self::mounted(&["-t", "tmpfs", "-o", &size, "tmpfs"])
    }

    /// Mounts what `mount` is told, if this process may do so.
    pub(crate) fn mounted(arguments: &[&str]) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_str().unwrap();
        run("mount", &[arguments, &[path]].concat()).then(|| Self(folder))
    }

    pub(crate) fn folder(&self) -> &Path {
        self.0.path()
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

/// Returns the size of a file, which may be absent.
pub(crate) fn size(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |file| file.len())
}

/// Runs a program, and returns whether it is there and succeeds.
pub(crate) fn run(program: &str, arguments: &[&str]) -> bool {
    let mut command = Command::new(program);
    command.args(arguments).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

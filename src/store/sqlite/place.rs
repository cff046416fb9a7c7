//! Where the file of a database is, and whether it is still there.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use super::super::{StoreError, StoreErrorKind};

/// The file of a database, as it was when it was first seen.
#[derive(Clone)]
pub(super) struct Place {
    path: Arc<PathBuf>,
    /// Unset until the file is there, and always for a database in memory.
    identity: Arc<OnceLock<Identity>>,
}

impl Place {
    pub(super) fn new(path: &Path) -> Self {
        // Against a change of the working folder.
        let path = std::path::absolute(path).unwrap_or_else(|_| path.into());
        let place = Self {
            path: Arc::new(path),
            identity: Arc::default(),
        };
        place.remember();
        place
    }

    /// Fails if the path names another file by now, or none.
    ///
    /// What is open stays open: the process goes on with a file that no other will ever see.
    pub(super) fn must_be_the_same(&self) -> Result<(), StoreError> {
        let Some(identity) = self.remember() else {
            return Ok(());
        };
        let what = match identity_of(&self.path) {
            Some(found) if found == *identity => return Ok(()),
            Some(_) => "replaced by another file",
            None => "removed or renamed",
        };
        let path = self.path.display();
        let why = format!(
            "{path} was {what} while it was open: this process goes on with the file that was \
             there, which no other process sees; restart it"
        );
        Err(StoreError::new(StoreErrorKind::Misconfigured, why))
    }

    /// Fails if the file is known to be on a network, where SQLite's locks do not work.
    pub(super) fn must_be_local(&self) -> Result<(), StoreError> {
        let Ok(path) = fs::canonicalize(&*self.path) else {
            return Ok(());
        };
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        match file_system(&mounts, &path) {
            Some(name) if NETWORKS.contains(&name) => {
                let path = path.display();
                let why = format!(
                    "{path} is on a network ({name}), where SQLite's locks and its write-ahead log \
                     do not work; use a local disk, or another store"
                );
                Err(StoreError::new(StoreErrorKind::Misconfigured, why))
            }
            _ => Ok(()),
        }
    }

    fn remember(&self) -> Option<&Identity> {
        if self.identity.get().is_none() {
            // Whoever is first has seen the same file.
            let _ = self.identity.set(identity_of(&self.path)?);
        }
        self.identity.get()
    }
}

/// The numbers of a device and of a file on it.
type Identity = (u64, u64);

/// Asks for the file without opening it: closing it again would drop SQLite's locks.
#[cfg(unix)]
fn identity_of(path: &Path) -> Option<Identity> {
    use std::os::unix::fs::MetadataExt;

    let file = fs::metadata(path).ok()?;
    Some((file.dev(), file.ino()))
}

#[cfg(not(unix))]
fn identity_of(_: &Path) -> Option<Identity> {
    None
}

/// Returns the name of the file system that a path is on, from Linux's list of mounts.
fn file_system<'a>(mounts: &'a str, path: &Path) -> Option<&'a str> {
    let mounts = mounts.lines().filter_map(|line| {
        let (place, system) = line.split_once(" - ")?;
        let point = unescaped(place.split(' ').nth(4)?);
        let name = system.split(' ').next()?;
        path.starts_with(&point).then_some((point.len(), name))
    });
    // Of two mounts at one point, the later one is seen.
    mounts
        .max_by_key(|(length, _)| *length)
        .map(|(_, name)| name)
}

/// Undoes the escapes of a mount point: `\040` is a blank.
fn unescaped(point: &str) -> String {
    [
        ("\\040", " "),
        ("\\011", "\t"),
        ("\\012", "\n"),
        ("\\134", "\\"),
    ]
    .iter()
    .fold(point.to_owned(), |point, (escape, byte)| {
        point.replace(escape, byte)
    })
}

/// The file systems that other machines share.
const NETWORKS: [&str; 16] = [
    "9p",
    "afs",
    "beegfs",
    "ceph",
    "cifs",
    "fuse.ceph",
    "fuse.gcsfuse",
    "fuse.glusterfs",
    "fuse.rclone",
    "fuse.s3fs",
    "fuse.sshfs",
    "lustre",
    "ncpfs",
    "nfs",
    "nfs4",
    "smb3",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_system_is_that_of_the_innermost_and_latest_mount() {
        let mounts = "\
22 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw
30 22 0:26 / /srv rw shared:5 - nfs4 server:/srv rw,vers=4.2
31 30 8:2 / /srv/local rw - xfs /dev/sdb rw
32 22 0:27 / /my\\040files rw - cifs //server/files rw
33 22 8:3 / /twice rw - ext4 /dev/sdc rw
34 22 0:28 / /twice rw - fuse.sshfs host: rw";
        for (path, name) in [
            ("/var/lib/app.db", "ext4"),
            ("/srv/app.db", "nfs4"),
            ("/srv2/app.db", "ext4"),
            ("/srv/local/app.db", "xfs"),
            ("/my files/app.db", "cifs"),
            ("/twice/app.db", "fuse.sshfs"),
        ] {
            assert_eq!(file_system(mounts, Path::new(path)), Some(name), "{path}");
        }
        assert_eq!(file_system("nonsense", Path::new("/app.db")), None);
    }
}

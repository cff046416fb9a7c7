//! A server's clock, which a test can step while the server runs.

use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::left_out;
use crate::process;

/// The time of day that a server and all that it starts believes.
///
/// The clock of the machine stays as it is, and so does the clock by which programs measure how long
/// something takes.
pub struct Clock {
    /// What is added to the time of day, in nanoseconds.
    step: PathBuf,
    library: PathBuf,
}

impl Clock {
    /// Makes a clock in a folder that its server can read, or says that the test is left out.
    pub fn new(test: &str, folder: &Path) -> Option<Self> {
        if !cfg!(target_os = "linux") || !process::is_there("cc") {
            left_out::say(
                test,
                "a clock can be stepped on Linux only, by what `cc` builds",
            );
            return None;
        }
        let clock = Self {
            step: folder.join("clock"),
            library: folder.join("clock.so"),
        };
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/clock.c");
        let built = Command::new("cc")
            .args(["-O1", "-Wall", "-Wextra", "-shared", "-fPIC", source, "-o"])
            .arg(&clock.library)
            .output()
            .unwrap();
        assert!(built.status.success(), "{built:?}");
        assert!(built.stderr.is_empty(), "{built:?}");
        fs::write(&clock.step, 0_i64.to_ne_bytes()).unwrap();
        // The server may be another user's.
        for (path, mode) in [(&clock.step, 0o644), (&clock.library, 0o755)] {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        }
        Some(clock)
    }

    /// Returns the clock of this process, which was started by the command of another's clock.
    pub fn of_this_process() -> Self {
        let step = PathBuf::from(std::env::var_os("STEPPED_CLOCK").expect("such a clock"));
        let library = step.with_extension("so");
        Self { step, library }
    }

    /// Returns a command by which what another one starts has this clock, in a process of the same id.
    pub fn of(&self, command: &[String]) -> Vec<String> {
        let mut whole = vec![
            "env".to_owned(),
            format!("LD_PRELOAD={}", self.library.display()),
            format!("STEPPED_CLOCK={}", self.step.display()),
        ];
        whole.extend_from_slice(command);
        whole
    }

    /// Sets the clock so far before the machine's.
    pub fn set_ahead(&self, by: Duration) {
        self.set(i64::try_from(by.as_nanos()).unwrap());
    }

    /// Sets the clock so far behind the machine's.
    pub fn set_behind(&self, by: Duration) {
        self.set(-i64::try_from(by.as_nanos()).unwrap());
    }

    fn set(&self, nanoseconds: i64) {
        // In place, since the servers have mapped the file.
        let step = fs::File::options().write(true).open(&self.step).unwrap();
        step.write_all_at(&nanoseconds.to_ne_bytes(), 0).unwrap();
    }
}

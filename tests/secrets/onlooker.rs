//! The secrets, and somebody who must not see them.

use std::fmt::{Debug, Display};
use std::io;
use std::sync::{Arc, Mutex};

pub(crate) const TOKEN: &str = "Bearer t0ken-of-Alice-7f3a";
pub(crate) const API_KEY: &str = "ap1-key-of-Alice-9c41";
pub(crate) const KEY: &str = "0rder-4711-of-Alice-b25d";
pub(crate) const BODY: &str = "card=4242-4242-4242-4242&cvc=987";
pub(crate) const TARGET: &str = "/pay?access_token=q0ery-of-Alice-51fe";
pub(crate) const SECRETS: [&str; 5] = [TOKEN, API_KEY, KEY, BODY, TARGET];

/// All that an onlooker gets to see.
#[derive(Clone, Default)]
pub(crate) struct Onlooker(Arc<Mutex<Vec<u8>>>);

impl Onlooker {
    pub(crate) fn see(&self, bytes: impl AsRef<[u8]>) {
        let mut seen = self.0.lock().unwrap();
        seen.extend_from_slice(bytes.as_ref());
        seen.push(b'\n');
    }

    pub(crate) fn debug(&self, value: impl Debug) {
        self.see(format!("{value:?} {value:#?}"));
    }

    pub(crate) fn both(&self, value: impl Debug + Display) {
        self.see(value.to_string());
        self.debug(value);
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }

    /// Eight bytes of a secret in a row, as text, as hexadecimal digits or as a list of numbers,
    /// are too many.
    pub(crate) fn assert_no_secrets(&self) {
        let seen = self.0.lock().unwrap().to_ascii_lowercase();
        for secret in SECRETS {
            for part in secret.to_ascii_lowercase().as_bytes().windows(8) {
                let hex: String = part.iter().map(|byte| format!("{byte:02x}")).collect();
                let list = format!("{part:?}");
                for form in [
                    part,
                    hex.as_bytes(),
                    list.trim_matches(['[', ']']).as_bytes(),
                ] {
                    let at = seen.windows(form.len()).position(|window| window == form);
                    let around = at.map(|at| {
                        let context = &seen[at.saturating_sub(120)..seen.len().min(at + 120)];
                        String::from_utf8_lossy(context)
                    });
                    assert_eq!(around, None, "a part of {secret:?} was seen");
                }
            }
        }
    }
}

impl io::Write for Onlooker {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

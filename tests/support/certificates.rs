//! Certificates that a test makes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::left_out;
use crate::process;

/// An authority, and by it a certificate for the name `localhost`, in files.
pub struct Certificates(PathBuf);

impl Certificates {
    /// Makes them in a folder, or says that the test is left out.
    pub fn make(test: &str, folder: &Path) -> Option<Self> {
        if !process::is_there("openssl") {
            left_out::say(test, "apt-get install openssl");
            return None;
        }
        let openssl = |arguments: &str| {
            let mut command = Command::new("openssl");
            let made = command.args(arguments.split(' ')).current_dir(folder);
            let made = made.output().unwrap();
            assert!(made.status.success(), "{made:?}");
        };
        let new_key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
        openssl(&format!(
            "req -x509 {new_key} -keyout ca.key -out ca.crt -days 2 -subj /CN=authority"
        ));
        openssl(&format!(
            "req {new_key} -keyout server.key -out server.csr -subj /CN=server"
        ));
        fs::write(folder.join("names"), "subjectAltName=DNS:localhost").unwrap();
        openssl(
            "x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -out server.crt \
             -days 2 -extfile names",
        );
        Some(Self(folder.to_owned()))
    }

    /// Returns the path of what a client is to trust.
    pub fn authority(&self) -> String {
        self.path("ca.crt")
    }

    /// Returns the path of the server's certificate.
    pub fn certificate(&self) -> String {
        self.path("server.crt")
    }

    /// Returns the path of the server's key.
    pub fn key(&self) -> String {
        self.path("server.key")
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }
}

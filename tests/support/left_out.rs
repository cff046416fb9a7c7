//! What happens to a test whose server is not there.

use std::io::Write;

/// Says that a test was left out, in a way that the test runner does not swallow.
///
/// # Panics
///
/// Panics where servers are required, as `tests/run.sh` says: nothing is left out there.
pub fn say(test: &str, install: &str) {
    assert!(
        std::env::var_os("SERVERS_REQUIRED").is_none(),
        "{test} needs a server that is not there: {install}"
    );
    let line = format!("\nleft out: {test} needs a server that is not there: {install}\n");
    // Not `eprintln!`, whose output is shown for a test that fails only.
    std::io::stderr().write_all(line.as_bytes()).unwrap();
}

//! What was logged.

use std::cell::RefCell;
use std::io::Write;
use std::sync::Once;

use tracing_subscriber::fmt::MakeWriter;

thread_local! {
    static LINES: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// The lines that are logged by this thread, and so by this test.
pub struct Log(());

impl Log {
    /// Begins to log, for all threads: one that has no subscriber would turn off the events that it
    /// is the first to come by.
    pub fn begin() -> Self {
        static ONCE: Once = Once::new();
        ONCE.call_once(|| {
            tracing_subscriber::fmt()
                .with_max_level(tracing::Level::DEBUG)
                .with_writer(Lines)
                .with_ansi(false)
                .init();
            tracing::callsite::rebuild_interest_cache();
        });
        let log = Self(());
        log.take();
        log
    }

    /// Returns the lines since the last time.
    pub fn take(&self) -> String {
        String::from_utf8(LINES.take()).unwrap()
    }
}

#[derive(Clone, Copy)]
struct Lines;

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        LINES.with_borrow_mut(|lines| lines.write(bytes))
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Lines {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        *self
    }
}

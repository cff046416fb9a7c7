//! A proxy before a PostgreSQL server, which cuts connections before, at and behind their commits.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use support::Random;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};

use super::instance::LEASE;

/// Passes bytes on to a server and back, until it cuts. Its task ends with the test's runtime.
pub(crate) struct Proxy {
    address: SocketAddr,
    cuts: Arc<Cuts>,
}

/// How often connections were cut, by where.
pub(crate) struct Cuts {
    random: Mutex<Random>,
    is_on: AtomicBool,
    /// The commit did not reach the server.
    pub(crate) before: AtomicUsize,
    /// The server has committed, and its answer was lost.
    pub(crate) after: AtomicUsize,
    /// The commit reached the server when its client had long been cut off.
    pub(crate) late: AtomicUsize,
    /// At any other message, of the store or the application.
    pub(crate) elsewhere: AtomicUsize,
}

#[derive(Clone, Copy)]
enum Cut {
    Before,
    After,
    Late(Duration),
    Elsewhere,
}

impl Proxy {
    pub(crate) async fn before(server: SocketAddr, seed: u64) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let cuts = Arc::new(Cuts {
            random: Mutex::new(Random::new(seed, u64::MAX)),
            is_on: AtomicBool::new(true),
            before: AtomicUsize::new(0),
            after: AtomicUsize::new(0),
            late: AtomicUsize::new(0),
            elsewhere: AtomicUsize::new(0),
        });
        let of_connections = Arc::clone(&cuts);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(pass(client, server, Arc::clone(&of_connections)));
            }
        });
        Self { address, cuts }
    }

    pub(crate) fn url(&self) -> String {
        format!("postgres://postgres@{}/postgres", self.address)
    }

    pub(crate) fn cuts(&self) -> &Cuts {
        &self.cuts
    }

    /// Passes everything on from now on.
    pub(crate) fn cut_no_more(&self) {
        self.cuts.is_on.store(false, Ordering::SeqCst);
    }
}

impl Cuts {
    /// Says whether to cut at a message of the client.
    fn at(&self, message: &[u8]) -> Option<Cut> {
        if !self.is_on.load(Ordering::SeqCst) {
            return None;
        }
        let mut random = self.random.lock().unwrap();
        let (cut, counter) = if message.windows(7).any(|bytes| bytes == b"COMMIT\0") {
            match random.within(0..60) {
                0 | 1 => (Cut::Before, &self.before),
                2 | 3 => (Cut::After, &self.after),
                4 | 5 => {
                    let late = LEASE.mul_f64(random.within(0..150) as f64 / 100.0);
                    (Cut::Late(late), &self.late)
                }
                _ => return None,
            }
        } else {
            if !random.is_one_in(1_000) {
                return None;
            }
            (Cut::Elsewhere, &self.elsewhere)
        };
        counter.fetch_add(1, Ordering::SeqCst);
        Some(cut)
    }
}

/// Passes bytes on in both directions. When it returns, both connections are cut.
async fn pass(mut client: TcpStream, server: SocketAddr, cuts: Arc<Cuts>) {
    let Ok(mut server) = TcpStream::connect(server).await else {
        return;
    };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (mut asked, mut answered) = (vec![0; 64 * 1024], vec![0; 64 * 1024]);
    loop {
        let passed = tokio::select! {
            read = client.read(&mut asked) => {
                let Ok(read @ 1..) = read else { return };
                let message = &asked[..read];
                match cuts.at(message) {
                    None => server.write_all(message).await,
                    Some(Cut::Before) => return,
                    Some(Cut::After) => return lose_answer(server, message).await,
                    Some(Cut::Late(by)) => {
                        drop(client);
                        sleep(by).await;
                        return lose_answer(server, message).await;
                    }
                    // Half of the time, the server still gets it.
                    Some(Cut::Elsewhere) if read % 2 == 0 => return,
                    Some(Cut::Elsewhere) => return lose_answer(server, message).await,
                }
            }
            read = server.read(&mut answered) => {
                let Ok(read @ 1..) = read else { return };
                client.write_all(&answered[..read]).await
            }
        };
        if passed.is_err() {
            return;
        }
    }
}

/// Passes a message on, and reads the answer for nobody.
async fn lose_answer(mut server: TcpStream, message: &[u8]) {
    if server.write_all(message).await.is_ok() {
        // A server that hangs answers nobody.
        let _ = timeout(10 * LEASE, server.read(&mut [0; 1024])).await;
    }
}

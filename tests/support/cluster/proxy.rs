//! A proxy before a server that can lose a reply.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Passes bytes on to a server and back. Its task ends with the test's runtime.
pub struct Proxy {
    address: SocketAddr,
    to_lose: Arc<AtomicUsize>,
}

impl Proxy {
    pub async fn before(server: SocketAddr) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let to_lose = Arc::new(AtomicUsize::new(0));
        let lose = Arc::clone(&to_lose);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(pass(client, server, Arc::clone(&lose)));
            }
        });
        Self { address, to_lose }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Loses this many of the next replies: when the server has acted and answers, both connections
    /// are cut.
    pub fn lose_replies(&self, count: usize) {
        self.to_lose.store(count, Ordering::SeqCst);
    }

    /// Returns whether all replies that were to be lost have been.
    pub fn has_lost_all(&self) -> bool {
        self.to_lose.load(Ordering::SeqCst) == 0
    }
}

async fn pass(client: TcpStream, server: SocketAddr, lose: Arc<AtomicUsize>) {
    let Ok(server) = TcpStream::connect(server).await else {
        return;
    };
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let requests = async move { tokio::io::copy(&mut from_client, &mut to_server).await };
    let replies = async move {
        let mut bytes = vec![0; 64 * 1024];
        loop {
            let Ok(read @ 1..) = from_server.read(&mut bytes).await else {
                return;
            };
            let lost = |left: usize| left.checked_sub(1);
            if lose
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, lost)
                .is_ok()
            {
                return;
            }
            if to_client.write_all(&bytes[..read]).await.is_err() {
                return;
            }
        }
    };
    // Whichever ends first, both connections are dropped, and so cut.
    tokio::select! {
        _ = requests => {}
        () = replies => {}
    }
}

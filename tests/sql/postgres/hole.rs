//! A network that loses what is on its way on old connections, and takes new ones.

use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Passes bytes on to a server and back.
pub(crate) struct Hole {
    address: SocketAddr,
    generation: watch::Sender<u64>,
}

impl Hole {
    pub(crate) async fn before(server: SocketAddr) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let generation = watch::Sender::new(0);
        let sender = generation.clone();
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let mut swallowed = sender.subscribe();
                tokio::spawn(async move {
                    let mut server = TcpStream::connect(server).await.unwrap();
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut client, &mut server) => return,
                        _ = swallowed.changed() => {}
                    }
                    // Neither end hears anything any more, not even that the connection is gone.
                    std::future::pending::<()>().await;
                });
            }
        });
        Self {
            address,
            generation,
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Swallows from now on what is sent on the connections that are there.
    pub(crate) fn swallow(&self) {
        self.generation.send_modify(|generation| *generation += 1);
    }
}

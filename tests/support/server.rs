//! A server for an application.

use std::net::SocketAddr;

use axum::Router;
use tokio::net::TcpListener;

/// Serves an application on a port of its own, until the runtime ends.
pub async fn serve(app: Router) -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    address
}

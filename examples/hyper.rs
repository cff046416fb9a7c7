//! The layer on hyper alone, without a framework.
//!
//! ```text
//! cargo run --example hyper
//! ```

use std::convert::Infallible;
use std::error::Error;
use std::io;
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tower::{ServiceBuilder, service_fn};
use tower_idempotency::{IdempotencyKey, IdempotencyLayer, MemoryStore, RequestBody};

/// The handler: an ordinary function over a request whose body the layer has wrapped.
async fn pay(request: Request<RequestBody<Incoming>>) -> Result<Response<Full<Bytes>>, Infallible> {
    tokio::time::sleep(Duration::from_secs(2)).await;
    // The validated key, for example to hand on to a payment provider.
    let key = request.extensions().get::<IdempotencyKey>();
    let key = key.map_or("no key", IdempotencyKey::as_str);
    println!("paid: {} {} ({key})", request.method(), request.uri());
    let mut response = Response::new(Full::from("paid\n"));
    *response.status_mut() = StatusCode::CREATED;
    Ok(response)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let address = "127.0.0.1:3001";
    let listener = TcpListener::bind(address)
        .await
        .map_err(|error| format!("cannot listen on {address}: {error}"))?;
    println!("To try, twice:");
    println!("  curl -i -X POST {address}/pay -H 'x-api-key: me' -H 'idempotency-key: order-1'");

    let idempotency = IdempotencyLayer::new(MemoryStore::new());
    let detached = idempotency.detached();
    let service = ServiceBuilder::new()
        .layer(idempotency)
        .service(service_fn(pay));

    // HTTP/1.1 alone, which builds faster: hyper-util's `conn::auto` takes HTTP/2 as well.
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new());
    let graceful = GracefulShutdown::new();
    let mut stop_signal = pin!(stop_signal());
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                // Such as too many open files: gone when connections are closed.
                Err(error) => {
                    eprintln!("cannot accept a connection: {error}");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    continue;
                }
            },
            stopped = stop_signal.as_mut() => {
                stopped?;
                break;
            }
        };
        let service = TowerToHyperService::new(service.clone());
        let connection = server.serve_connection(TokioIo::new(stream), service);
        let connection = graceful.watch(connection);
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                eprintln!("a connection failed: {error}");
            }
        });
    }

    println!("Shutting down.");
    drop(listener);
    tokio::time::timeout(Duration::from_secs(30), graceful.shutdown())
        .await
        .map_err(|_| "connections are still open")?;
    detached.wait(Duration::from_secs(30)).await?;
    Ok(())
}

/// Waits for Ctrl-C, or for SIGTERM, which service managers and containers send.
async fn stop_signal() -> io::Result<()> {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};

        let mut terminate = signal(SignalKind::terminate())?;
        tokio::select! {
            _ = terminate.recv() => Ok(()),
            pressed = tokio::signal::ctrl_c() => pressed,
        }
    }
    #[cfg(not(unix))]
    tokio::signal::ctrl_c().await
}

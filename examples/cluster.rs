//! Two instances of a small VM API on one store, chosen by a configuration value.
//!
//! ```text
//! STORE=redis://127.0.0.1/ cargo run --features redis --example cluster
//! ```
//!
//! Two ports stand for two machines: a write on the first is replayed by the second.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tower_idempotency::store::DynStore;
use tower_idempotency::{IdempotencyLayer, MemoryStore, RedisStore};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let config = std::env::var("STORE").unwrap_or_else(|_| "redis://127.0.0.1/".to_owned());
    println!(
        "Two instances on {}.",
        config.split('@').next_back().unwrap_or_default()
    );

    let mut instances = Vec::new();
    for (name, port) in [("a", 3001), ("b", 3002)] {
        // Each opens the store for itself, as two processes would.
        let layer = IdempotencyLayer::new(open(&config).await?);
        let listener = TcpListener::bind(("127.0.0.1", port)).await?;
        let server = axum::serve(listener, api(name).layer(layer));
        instances.push(tokio::spawn(server.into_future()));
    }

    println!(
        "
A write on the first instance:

  curl -i localhost:3001/vms -H 'x-api-key: secret' -H 'idempotency-key: vm-1' -d '{{\"size\": 2}}'

The same again on the second, which answers with the first one's response, marked
`idempotency-replayed: true`, and creates nothing:

  curl -i localhost:3002/vms -H 'x-api-key: secret' -H 'idempotency-key: vm-1' -d '{{\"size\": 2}}'
"
    );
    for instance in instances {
        instance.await??;
    }
    Ok(())
}

/// Opens the store that a configuration value names.
async fn open(config: &str) -> Result<DynStore, Box<dyn Error>> {
    Ok(
        match config.split_once(':').map_or(config, |(scheme, _)| scheme) {
            "redis" | "rediss" | "unix" => DynStore::new(RedisStore::connect(config).await?),
            #[cfg(feature = "postgres")]
            "postgres" | "postgresql" => {
                let store = tower_idempotency::store::PostgresStore::connect(config).await?;
                store.migrate().await?;
                DynStore::new(store)
            }
            #[cfg(feature = "sqlite")]
            "sqlite" => {
                let path = config.trim_start_matches("sqlite:");
                let store = tower_idempotency::store::SqliteStore::open(path).await?;
                store.migrate().await?;
                DynStore::new(store)
            }
            // For a single instance: two of these know nothing of each other.
            "memory" => DynStore::new(MemoryStore::new()),
            other => return Err(format!("there is no store named {other:?}").into()),
        },
    )
}

fn api(instance: &'static str) -> Router {
    Router::new()
        .route("/vms", post(create_vm))
        .with_state((instance, Arc::default()))
}

/// Creates a VM: what must not be done twice.
async fn create_vm(
    State((instance, created)): State<(&'static str, Arc<AtomicU64>)>,
) -> (StatusCode, Json<Value>) {
    let number = created.fetch_add(1, Ordering::SeqCst) + 1;
    println!("Instance {instance} creates a VM.");
    let vm = json!({ "id": format!("{instance}-{number}"), "created_by": instance });
    (StatusCode::CREATED, Json(vm))
}

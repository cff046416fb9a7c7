//! An API that counts the runs of each key.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use axum::Router;
use http::StatusCode;
use tower_idempotency::store::DynStore;
use tower_idempotency::{IdempotencyLayer, Outcome};

use super::api;
use crate::wait::Gate;

/// The runs of each key, and those keys whose first run waits at a gate.
#[derive(Clone, Default)]
pub struct Counted {
    runs: Arc<Mutex<HashMap<String, usize>>>,
    gates: Arc<Mutex<HashMap<String, Gate>>>,
}

impl Counted {
    /// Builds the API, which answers with the number of the key's run.
    pub fn router(&self, layer: IdempotencyLayer<DynStore>) -> Router {
        let counted = self.clone();
        api::router(layer, move |key| {
            let run = {
                let mut runs = counted.runs.lock().unwrap();
                let run = runs.entry(key.clone()).or_default();
                *run += 1;
                *run
            };
            let gate = counted.gates.lock().unwrap().get(&key).cloned();
            async move {
                if let (Some(gate), 1) = (gate, run) {
                    gate.pass().await;
                }
                (StatusCode::CREATED, format!("run {run}"))
            }
        })
    }

    /// Sends the first request of a key, and returns when its handler waits at the gate.
    pub async fn start(&self, router: &Router, key: &str) -> Slow {
        let gate = Gate::new();
        self.gates
            .lock()
            .unwrap()
            .insert(key.to_owned(), gate.clone());
        let (router, owned) = (router.clone(), key.to_owned());
        let answer = tokio::spawn(async move {
            let answer = api::call(&router, &owned).await;
            assert_eq!(answer.status, StatusCode::CREATED);
            answer.outcome
        });
        gate.reached().await;
        Slow { gate, answer }
    }

    pub fn runs(&self, key: &str) -> usize {
        self.runs.lock().unwrap()[key]
    }
}

/// A request whose handler waits.
pub struct Slow {
    gate: Gate,
    answer: tokio::task::JoinHandle<Outcome>,
}

impl Slow {
    /// Lets the handler end, and returns what came of its request.
    pub async fn end(self) -> Outcome {
        self.gate.open();
        self.answer.await.unwrap()
    }
}

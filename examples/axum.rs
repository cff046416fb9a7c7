//! A small VM provisioning API, in which a retried write happens once.
//!
//! ```text
//! cargo run --example axum
//! ```
//!
//! It prints what to try, and logs what the layer did with each write.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::{Extension, Path, Request, State};
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE, LOCATION};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tower::ServiceBuilder;
use tower_idempotency::{CallerId, IdempotencyLayer, MemoryStore, Outcome};
use tracing::{error, info};

#[tokio::main]
async fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_target(false)
        .with_ansi(std::io::stdout().is_terminal())
        .init();
    let address = std::env::args().nth(1);
    let address = address.as_deref().unwrap_or("127.0.0.1:3000");
    let listener = match TcpListener::bind(address).await {
        Ok(listener) => listener,
        Err(error) => {
            eprintln!("Cannot listen on {address}: {error}.");
            eprintln!("Another address can be given: cargo run --example axum -- 127.0.0.1:3001");
            return ExitCode::FAILURE;
        }
    };
    print_what_to_try(address);

    // The customer is whoever `authenticate` has recognised. Without `caller`, it would be whoever
    // sends the same credential headers.
    let idempotency = IdempotencyLayer::new(MemoryStore::new()).caller(|parts| {
        let customer = parts.extensions.get::<Customer>()?;
        Some(CallerId::new(customer.0))
    });
    let detached = idempotency.detached();
    // A VM costs money, so this route refuses a write without a key. The clone has the same store.
    let paid = Router::new()
        .route("/api/public/v1/vms", get(list_vms).post(create_vm))
        .route_layer(idempotency.clone().require_key(true));
    let free = Router::new()
        .route("/api/public/v1/vms/{id}", delete(delete_vm))
        .route("/api/public/v1/vms/{id}/invoice", post(make_invoice))
        .route_layer(idempotency);
    // Credentials are checked further out, so that nothing is replayed to one that was revoked.
    let around = ServiceBuilder::new() // The first is the outermost.
        .layer(from_fn(authenticate))
        .layer(from_fn(log_outcome));
    let app = paid.merge(free).layer(around).with_state(Arc::default());

    // First no new requests, then the connections, then the writes whose client has left.
    let serve = axum::serve(listener, app).with_graceful_shutdown(async {
        stop_signal().await;
        info!("shutting down; press Ctrl-C again to stop at once");
    });
    let drained = async {
        if let Err(error) = serve.await {
            error!("the server failed: {error}");
            return ExitCode::FAILURE;
        }
        info!(
            running = detached.count(),
            "no connections are left, only writes without a client"
        );
        match detached.wait(Duration::from_secs(30)).await {
            Ok(()) => ExitCode::SUCCESS,
            Err(unfinished) => {
                error!("{unfinished}");
                ExitCode::FAILURE
            }
        }
    };
    let twice = async {
        stop_signal().await;
        stop_signal().await;
    };
    tokio::select! {
        code = drained => code,
        () = twice => ExitCode::FAILURE,
    }
}

/// Waits for Ctrl-C, or for SIGTERM, which service managers and containers send.
async fn stop_signal() {
    let stopped = async {
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
    };
    // Where signals can't be listened for, the system ends the process.
    if stopped.await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Who sends a request, as `authenticate` has recognised.
#[derive(Clone, Copy, PartialEq)]
struct Customer(&'static str);

/// Lets only requests with a known `x-api-key` through.
async fn authenticate(headers: HeaderMap, mut request: Request, next: Next) -> Response {
    let customer = match headers.get("x-api-key").map(HeaderValue::as_bytes) {
        Some(b"alice-key") => Customer("alice"),
        Some(b"bob-key") => Customer("bob"),
        _ => return problem(StatusCode::UNAUTHORIZED, "send x-api-key: alice-key"),
    };
    request.extensions_mut().insert(customer);
    next.run(request).await
}

/// Logs what the layer did. A metrics layer would count `Outcome::as_str` in the same place.
async fn log_outcome(request: Request, next: Next) -> Response {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let response = next.run(request).await;
    let outcome = Outcome::of(response.extensions());
    info!(%method, path, status = response.status().as_u16(), %outcome, "answered");
    response
}

#[derive(Default)]
struct Vms {
    next_id: u64,
    next_invoice: u64,
    by_id: BTreeMap<u64, (Customer, Vm)>,
}

type SharedVms = Arc<Mutex<Vms>>;

#[derive(Clone, Serialize)]
struct Vm {
    id: u64,
    name: String,
}

#[derive(Deserialize)]
struct NewVm {
    name: String,
}

async fn list_vms(
    State(vms): State<SharedVms>,
    Extension(customer): Extension<Customer>,
) -> Json<Vec<Vm>> {
    let vms = vms.lock().unwrap_or_else(PoisonError::into_inner);
    let own = vms.by_id.values().filter(|(owner, _)| *owner == customer);
    Json(own.map(|(_, vm)| vm.clone()).collect())
}

async fn create_vm(
    State(vms): State<SharedVms>,
    Extension(customer): Extension<Customer>,
    Json(new): Json<NewVm>,
) -> impl IntoResponse {
    info!(name = new.name, "creating a VM, which takes two seconds");
    tokio::time::sleep(Duration::from_secs(2)).await;
    let mut vms = vms.lock().unwrap_or_else(PoisonError::into_inner);
    vms.next_id += 1;
    let id = vms.next_id;
    let vm = Vm { id, name: new.name };
    vms.by_id.insert(id, (customer, vm.clone()));
    info!(id, "created a VM");
    let location = [(LOCATION, format!("/api/public/v1/vms/{id}"))];
    (StatusCode::CREATED, location, Json(vm))
}

async fn delete_vm(
    State(vms): State<SharedVms>,
    Extension(customer): Extension<Customer>,
    Path(id): Path<u64>,
) -> Response {
    let mut vms = vms.lock().unwrap_or_else(PoisonError::into_inner);
    if !vms.belongs(id, customer) {
        return problem(StatusCode::NOT_FOUND, "there is no such VM");
    }
    vms.by_id.remove(&id);
    info!(id, "deleted a VM");
    StatusCode::NO_CONTENT.into_response()
}

/// Answers with a file, which is not kept: a retry makes another invoice.
async fn make_invoice(
    State(vms): State<SharedVms>,
    Extension(customer): Extension<Customer>,
    Path(id): Path<u64>,
) -> Response {
    let mut vms = vms.lock().unwrap_or_else(PoisonError::into_inner);
    if !vms.belongs(id, customer) {
        return problem(StatusCode::NOT_FOUND, "there is no such VM");
    }
    vms.next_invoice += 1;
    let number = vms.next_invoice;
    info!(number, "made an invoice");
    let head = [
        (CONTENT_TYPE, "application/pdf".to_owned()),
        (
            CONTENT_DISPOSITION,
            format!("attachment; filename=\"invoice-{number}.pdf\""),
        ),
    ];
    let text = format!("Invoice {number}: VM {id}, {}", customer.0);
    (head, pdf(&text)).into_response()
}

impl Vms {
    fn belongs(&self, id: u64, customer: Customer) -> bool {
        let vm = self.by_id.get(&id);
        vm.is_some_and(|(owner, _)| *owner == customer)
    }
}

fn problem(status: StatusCode, detail: &str) -> Response {
    let body = serde_json::json!({ "status": status.as_u16(), "detail": detail });
    let head = [(CONTENT_TYPE, "application/problem+json")];
    (status, head, body.to_string()).into_response()
}

/// Makes a PDF of one page with one line of text, which must hold no brackets.
fn pdf(text: &str) -> Vec<u8> {
    let draw = format!("BT /F 24 Tf 72 720 Td ({text}) Tj ET");
    let objects = [
        "<</Type/Catalog/Pages 2 0 R>>".to_owned(),
        "<</Type/Pages/Count 1/Kids[3 0 R]>>".to_owned(),
        "<</Type/Page/Parent 2 0 R/MediaBox[0 0 595 842]/Contents 4 0 R\
         /Resources<</Font<</F<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>>>>>>>"
            .to_owned(),
        format!("<</Length {}>>stream\n{draw}\nendstream", draw.len()),
    ];
    let mut file = "%PDF-1.4\n".to_owned();
    let mut table = "xref\n0 5\n0000000000 65535 f \n".to_owned();
    for (number, object) in (1..).zip(&objects) {
        table += &format!("{:010} 00000 n \n", file.len());
        file += &format!("{number} 0 obj\n{object}\nendobj\n");
    }
    let start = file.len();
    file += &format!("{table}trailer\n<</Size 5/Root 1 0 R>>\nstartxref\n{start}\n%%EOF\n");
    file.into_bytes()
}

fn print_what_to_try(address: &str) {
    let vms = format!("http://{address}/api/public/v1/vms");
    println!(
        r#"A VM provisioning API listens on http://{address}. To try in another terminal:

Create a VM, which takes two seconds. Again: the same answer at once, and still one VM. Without
its key: 400.
  curl -i {vms} -H 'x-api-key: alice-key' -H 'idempotency-key: order-1' -H 'content-type: application/json' -d '{{"name":"web-1"}}'

Press Ctrl-C in the middle of this one, and run it again: 409 while it runs, then the answer.
  curl -i {vms} -H 'x-api-key: alice-key' -H 'idempotency-key: order-2' -H 'content-type: application/json' -d '{{"name":"web-2"}}'

Another customer may use the same key.
  curl -i {vms} -H 'x-api-key: bob-key' -H 'idempotency-key: order-1' -H 'content-type: application/json' -d '{{"name":"bob-1"}}'

List the VMs.
  curl -i {vms} -H 'x-api-key: alice-key'

An invoice, as a PDF. Files are not kept, so each run makes another.
  curl -fOJ -X POST {vms}/1/invoice -H 'x-api-key: alice-key' -H 'idempotency-key: invoice-1'

The key of one operation, sent with another: 422.
  curl -i -X DELETE {vms}/1 -H 'x-api-key: alice-key' -H 'idempotency-key: order-1'

Delete a VM. Again: 204 again, and not 404.
  curl -i -X DELETE {vms}/1 -H 'x-api-key: alice-key' -H 'idempotency-key: delete-1'

Press Ctrl-C here to stop. A write that is running is finished first.
"#
    );
}

//! Requests through the layer, with a handler that keeps its response in a transaction of this driver.

use std::convert::Infallible;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use tokio_postgres::{Client, Config};
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_idempotency::{IdempotencyLayer, Transactional};

use super::database::Schema;
use super::store::{TokioPostgresStore, connect};

type Keep = Transactional<TokioPostgresStore>;
type Error = Box<dyn std::error::Error + Send + Sync>;

/// Pays, and fails if the server refuses the payment or its commit.
async fn pay(client: &mut Client, keep: &Keep) -> Result<Response<Full<Bytes>>, Error> {
    let mut transaction = client.transaction().await?;
    let payment = "INSERT INTO payments DEFAULT VALUES RETURNING id";
    let id: i64 = transaction.query_one(payment, &[]).await?.get(0);
    let receipt = Response::builder()
        .status(StatusCode::CREATED)
        .body(Full::from(format!("payment {id}")))?;
    let receipt = keep.in_transaction(&mut transaction, receipt).await?;
    transaction.commit().await?;
    Ok(receipt)
}

#[tokio::test]
async fn a_payment_and_its_response_are_committed_together_or_not_at_all() {
    let test = "a_payment_and_its_response_are_committed_together_or_not_at_all";
    let Some(schema) = Schema::of(test).await else {
        return;
    };
    let store = schema.store().await;
    let client = schema.connect().await;
    // The rule is looked for at the commit, when the record is written already.
    let tables = "
        CREATE TABLE rules (number bigint PRIMARY KEY);
        CREATE TABLE payments (
            id bigint GENERATED ALWAYS AS IDENTITY,
            rule bigint DEFAULT 1 REFERENCES rules DEFERRABLE INITIALLY DEFERRED
        )";
    client.batch_execute(tables).await.unwrap();
    let layer = IdempotencyLayer::new(store).transactional();
    let app = layer.layer(service(schema.config().clone()));

    let (status, body, is_replay) = send(app.clone()).await;
    assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR, "{body}");
    assert!(!is_replay, "of a payment that was not committed");
    assert_eq!(payments(&client).await, 0);

    client
        .batch_execute("INSERT INTO rules VALUES (1)")
        .await
        .unwrap();
    let first = send(app.clone()).await;
    assert_eq!(first, (StatusCode::CREATED, "payment 2".to_owned(), false));
    let second = send(app).await;
    assert_eq!(second, (StatusCode::CREATED, "payment 2".to_owned(), true));
    assert_eq!(payments(&client).await, 1);
    schema.remove().await;
}

fn service<B: Send + 'static>(
    config: Config,
) -> impl Service<
    Request<B>,
    Response = Response<Full<Bytes>>,
    Error = Infallible,
    Future: Future + Send + 'static,
> + Clone
+ Send
+ 'static {
    service_fn(move |request: Request<B>| {
        let config = config.clone();
        async move {
            let keep = request.extensions().get::<Keep>().unwrap().clone();
            let mut client = connect(&config).await.unwrap();
            let paid = pay(&mut client, &keep).await;
            Ok(paid.unwrap_or_else(|error| {
                let mut failed = Response::new(Full::from(error.to_string()));
                *failed.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
                failed
            }))
        }
    })
}

/// Sends the one request, and returns its answer and whether that is a replay.
async fn send<S, B>(app: S) -> (StatusCode, String, bool)
where
    S: Service<Request<Full<Bytes>>, Response = Response<B>, Error = Infallible>,
    B: BodyExt<Data = Bytes, Error: std::fmt::Debug>,
{
    let request = Request::post("/payments")
        .header("idempotency-key", "payment-1")
        .header("authorization", "Bearer alice")
        .body(Full::default())
        .unwrap();
    let response = app.oneshot(request).await.unwrap();
    let is_replay = response.headers().contains_key("idempotency-replayed");
    let status = response.status();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap(), is_replay)
}

async fn payments(client: &Client) -> i64 {
    let row = client.query_one("SELECT count(*) FROM payments", &[]);
    row.await.unwrap().get(0)
}

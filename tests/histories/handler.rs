//! The inner service: follows a script, and sees to it that it is called as a Tower service may be.

use std::future::{Future, poll_fn};
use std::panic::panic_any;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, Response};
use http_body::Body;
use tower::Service;
use tower_idempotency::store::Fingerprint;
use tower_idempotency::{IdempotencyKey, RequestBody};

use crate::bodies::{ScriptedBody, Upload};
use crate::client::{self, ClientNumber};
use crate::script::{Broken, Ending, Nap};
use crate::world::{Call, World};

/// A service that must be polled ready before each call, on the very instance that is called.
pub(crate) struct Handler {
    world: Arc<World>,
    ready: Option<Reserved>,
    polls: u8,
}

impl Handler {
    pub(crate) fn new(world: Arc<World>) -> Self {
        Self {
            world,
            ready: None,
            polls: 0,
        }
    }
}

impl Clone for Handler {
    fn clone(&self) -> Self {
        Self::new(Arc::clone(&self.world))
    }
}

/// What a service has taken to be ready, such as a permit.
struct Reserved(Arc<World>);

impl Drop for Reserved {
    fn drop(&mut self) {
        self.0.state().reserved -= 1;
    }
}

impl Service<Request<RequestBody<Upload>>> for Handler {
    type Response = Response<ScriptedBody>;
    type Error = Broken;
    type Future = Pin<Box<dyn Future<Output = Result<Response<ScriptedBody>, Broken>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        self.polls += 1;
        if self.polls == 1 {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        if self.ready.is_none() {
            self.world.state().reserved += 1;
            self.ready = Some(Reserved(Arc::clone(&self.world)));
        }
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<RequestBody<Upload>>) -> Self::Future {
        let world = Arc::clone(&self.world);
        let reserved = self.ready.take();
        if reserved.is_none() {
            world.violated("the inner service was called when it was not ready".to_owned());
        }
        let (parts, upload) = request.into_parts();
        let ClientNumber(client) = *parts.extensions.get().unwrap();
        let call: Call = parts.extensions.get::<Call>().unwrap().clone();
        if parts.extensions.get::<IdempotencyKey>().is_none() {
            world.violated("the handler does not find the key".to_owned());
        }
        let key = client::record_key(&parts.headers);
        let fingerprint = Fingerprint::new(&parts.method, &parts.uri);
        let run = world.run(client, key, fingerprint, call.clone());
        Box::pin(async move {
            let _reserved = reserved;
            let script = call.script;
            if script.reads_upload {
                let mut upload = pin!(upload);
                while let Some(Ok(_)) = poll_fn(|context| upload.as_mut().poll_frame(context)).await
                {
                }
            }
            for _ in 0..script.yields {
                tokio::task::yield_now().await;
            }
            if script.nap != Nap::None {
                tokio::time::sleep(script.nap.length()).await;
            }
            world.run_is_over(run);
            match &script.ending {
                Ending::Error => Err(Broken),
                Ending::Panic => panic_any(Broken),
                Ending::Answer(answer) => {
                    let mut response = Response::new(ScriptedBody::new(&answer.body, run));
                    *response.status_mut() = answer.status.try_into().unwrap();
                    *response.headers_mut() = answer.headers(run);
                    if answer.do_not_keep {
                        let extensions = response.extensions_mut();
                        extensions.insert(tower_idempotency::DoNotKeep);
                    }
                    Ok(response)
                }
            }
        })
    }
}

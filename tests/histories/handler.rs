//! The handler, which follows a script, and what it did.

use std::panic::panic_any;
use std::sync::Arc;

use http::Response;
use support::{Broken, Failure, Handler, read};
use tower_idempotency::store::Fingerprint;
use tower_idempotency::{DoNotKeep, IdempotencyKey, RecordKey};

use crate::bodies;
use crate::claim::Told;
use crate::client::{self, ClientNumber};
use crate::script::{Ending, Nap, Plan, UploadKind};
use crate::world::{Run, World};

/// A handler that reports its runs to the world.
pub(crate) fn handler(world: Arc<World>) -> Handler {
    let handler = Handler::new(move |_, request| {
        let world = Arc::clone(&world);
        let (parts, upload) = request.into_parts();
        let ClientNumber(client) = *parts.extensions.get().unwrap();
        let plan: Plan = parts.extensions.get::<Plan>().unwrap().clone();
        if parts.extensions.get::<IdempotencyKey>().is_none() {
            world.violated("the handler does not find the key".to_owned());
        }
        let key = client::record_key(&parts.headers);
        let fingerprint = Fingerprint::new(&parts.method, &parts.uri);
        let run = world.run(client, key, fingerprint, plan.clone());
        async move {
            let script = plan.script;
            if script.reads_upload {
                read(upload).await;
            }
            for _ in 0..script.yields {
                tokio::task::yield_now().await;
            }
            if script.nap != Nap::None {
                tokio::time::sleep(script.nap.length()).await;
            }
            world.run_is_over(run);
            match &script.ending {
                Ending::Error => Err(Failure("the handler fails")),
                Ending::Panic => panic_any(Broken),
                Ending::Answer(answer) => {
                    let mut response = Response::new(bodies::response(&answer.body, run));
                    *response.status_mut() = answer.status.try_into().unwrap();
                    *response.headers_mut() = answer.headers(run);
                    if answer.do_not_keep {
                        response.extensions_mut().insert(DoNotKeep);
                    }
                    Ok(response)
                }
            }
        }
    });
    handler.that_pends()
}

impl World {
    /// Begins a run, and says which it is.
    fn run(&self, client: usize, key: RecordKey, fingerprint: Fingerprint, plan: Plan) -> usize {
        let state = &mut *self.state();
        let id = state.runs.len();
        if state.gone.contains(&client) {
            let rule = format!("run {id} began although its client had left");
            state.violations.push(rule);
        }
        let last = state.last_told.take().filter(|(told, _)| *told == key);
        let Some((_, owner)) = last else {
            state.violations.push(format!("run {id} without asking"));
            return id;
        };
        let claim = &state.owners[&owner];
        match claim.told.clone() {
            // A store that fails, or lies, lets the handler run.
            Some(Told::Failure) => {}
            Some(Told::Started) if !claim.claimed => {}
            Some(Told::Started) => {
                for (other, run) in state.runs.iter().enumerate() {
                    if run.key != key {
                        continue;
                    }
                    let claim = &state.owners[&run.owner];
                    let rule = if claim.is_excused() {
                        continue;
                    } else if let Some(completion) = &claim.completed {
                        completion.is_live().then_some("is kept")
                    } else {
                        (!claim.released).then_some("is not over")
                    };
                    if let Some(rule) = rule {
                        let rule = format!("run {id} although run {other} of its key {rule}");
                        state.violations.push(rule);
                        break;
                    }
                }
            }
            told => {
                let rule = format!("run {id} although the store said {told:?}");
                state.violations.push(rule);
            }
        }
        state.runs.push(Run {
            client,
            key,
            fingerprint,
            owner,
            upload_is_broken: plan.script.reads_upload && plan.upload == UploadKind::Broken,
            script: plan.script,
            is_over: false,
        });
        id
    }

    fn run_is_over(&self, run: usize) {
        if let Some(run) = self.state().runs.get_mut(run) {
            run.is_over = true;
        }
    }
}

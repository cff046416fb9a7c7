//! Wakers that do at once what others leave to later.

use std::pin::Pin;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;

use http::Response;
use http_body::Body;
use tower::ServiceExt;
use tower_idempotency::ResponseBody;

use crate::support::{Frames, Gate, Handler, PATIENCE, Piece, pend, scripted, write};

/// A reader of a body that reads on within the call that wakes it, as an executor may.
struct Eager {
    body: Mutex<Pin<Box<ResponseBody<Frames>>>>,
    read: Mutex<Vec<u8>>,
}

impl Eager {
    fn read_on(self: &Arc<Self>) {
        let waker = Waker::from(Arc::clone(self));
        // Locked while it reads already, which goes on.
        let Ok(mut body) = self.body.try_lock() else {
            return;
        };
        while let Poll::Ready(Some(frame)) =
            body.as_mut().poll_frame(&mut Context::from_waker(&waker))
        {
            let data = frame.unwrap().into_data().unwrap();
            self.read.lock().unwrap().extend_from_slice(&data);
        }
    }
}

impl Wake for Eager {
    fn wake(self: Arc<Self>) {
        self.read_on();
    }
}

#[test]
fn a_reader_that_reads_on_while_it_is_woken_gets_the_whole_body() {
    let (done, is_done) = channel();
    // In a thread of its own, which a deadlock would hold for ever.
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        let read = runtime.block_on(async {
            let gate = Gate::new();
            let at_gate = gate.clone();
            let handler = Handler::new(move |_, _| {
                let gate = at_gate.clone();
                let wait = Piece::Until(Box::pin(async move { gate.pass().await }));
                let pieces = [Piece::Data("a"), wait, Piece::Data("b"), Piece::Pend];
                async { Ok(Response::new(Frames::unknown(pieces))) }
            });
            let app = handler.under(&scripted().0);
            let response = app.oneshot(write("k")).await.unwrap();
            let eager = Arc::new(Eager {
                body: Mutex::new(Box::pin(response.into_body())),
                read: Mutex::default(),
            });
            eager.read_on();
            gate.open();
            while !eager.body.lock().unwrap().is_end_stream() {
                pend(1).await;
            }
            eager.read.lock().unwrap().clone()
        });
        done.send(read).unwrap();
    });
    let read = is_done.recv_timeout(PATIENCE);
    assert_eq!(read.expect("an end"), b"ab");
}

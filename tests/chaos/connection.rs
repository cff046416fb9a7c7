//! A connection that its client can hang up at any moment.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use support::{Answer, Raw};
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

pub(crate) struct Connection(Raw);

/// When a client hangs up.
#[derive(Clone, Copy, Debug)]
pub(crate) enum HangUp {
    Never,
    /// With so many bytes of the request sent.
    Sending(usize),
    /// So long after the request was sent, if there is no answer by then.
    Waiting(Duration),
    /// With so many bytes of the response received, if it has more.
    Receiving(usize),
}

pub(crate) enum Reply {
    Answer(Box<Answer<Bytes>>),
    /// We hung up.
    HungUp,
    /// The other side hung up before the end of its answer.
    Broke,
}

impl Connection {
    pub(crate) async fn open(address: SocketAddr) -> io::Result<Self> {
        Ok(Self(Raw::open(address).await?))
    }

    /// Makes the end of this connection a reset in place of an orderly close.
    pub(crate) fn reset_when_dropped(&self) {
        // Where it can't be, the close is an orderly one, which is as good a way to leave.
        let _ = self.0.0.set_zero_linger();
    }

    pub(crate) async fn ask(&mut self, request: &[u8], hang_up: HangUp) -> Reply {
        let to_send = match hang_up {
            HangUp::Sending(bytes) => &request[..bytes.min(request.len())],
            _ => request,
        };
        if self.0.0.write_all(to_send).await.is_err() {
            return Reply::Broke;
        }
        match hang_up {
            HangUp::Sending(_) => Reply::HungUp,
            HangUp::Never => self.receive(usize::MAX).await,
            HangUp::Receiving(bytes) => self.receive(bytes).await,
            HangUp::Waiting(time) => {
                let received = timeout(time, self.receive(usize::MAX)).await;
                received.unwrap_or(Reply::HungUp)
            }
        }
    }

    async fn receive(&mut self, limit: usize) -> Reply {
        loop {
            if let Some(answer) = self.0.take_answer() {
                return Reply::Answer(Box::new(answer));
            }
            if self.0.received() > limit {
                return Reply::HungUp;
            }
            if self.0.receive().await.is_err() {
                return Reply::Broke;
            }
        }
    }
}

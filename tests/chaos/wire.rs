//! An HTTP/1.1 client that can hang up at any moment.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

pub(crate) struct Connection {
    stream: TcpStream,
    received: Vec<u8>,
}

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
    Answer(Answer),
    /// We hung up.
    HungUp,
    /// The other side hung up before the end of its answer.
    Broke,
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HashMap<String, String>,
    pub(crate) body: Vec<u8>,
}

impl Connection {
    pub(crate) async fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            received: Vec::new(),
        })
    }

    /// Makes the end of this connection a reset in place of an orderly close.
    pub(crate) fn reset_when_dropped(&self) {
        // Where it can't be, the close is an orderly one, which is as good a way to leave.
        let _ = self.stream.set_zero_linger();
    }

    pub(crate) async fn ask(&mut self, request: &[u8], hang_up: HangUp) -> Reply {
        let to_send = match hang_up {
            HangUp::Sending(bytes) => &request[..bytes.min(request.len())],
            _ => request,
        };
        if self.stream.write_all(to_send).await.is_err() {
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
            if let Some((answer, length)) = parse(&self.received) {
                self.received.drain(..length);
                return Reply::Answer(answer);
            }
            if self.received.len() > limit {
                return Reply::HungUp;
            }
            match self.stream.read_buf(&mut self.received).await {
                Ok(0) | Err(_) => return Reply::Broke,
                Ok(_) => {}
            }
        }
    }
}

/// Reads one whole response, and tells how long it is.
fn parse(bytes: &[u8]) -> Option<(Answer, usize)> {
    let head_end = find(bytes, b"\r\n\r\n")? + 4;
    let head = std::str::from_utf8(&bytes[..head_end]).ok()?;
    let mut lines = head.lines();
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let fields = lines.filter_map(|line| line.split_once(": "));
    let headers: HashMap<_, _> = fields
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let (body, end) = match headers.get("content-length") {
        Some(length) => {
            let end = head_end + length.parse::<usize>().ok()?;
            (bytes.get(head_end..end)?.to_vec(), end)
        }
        None => unchunk(bytes, head_end)?,
    };
    let answer = Answer {
        status,
        headers,
        body,
    };
    Some((answer, end))
}

fn unchunk(bytes: &[u8], mut at: usize) -> Option<(Vec<u8>, usize)> {
    let mut body = Vec::new();
    loop {
        let line_end = at + find(bytes.get(at..)?, b"\r\n")?;
        let length = std::str::from_utf8(&bytes[at..line_end]).ok()?;
        let length = usize::from_str_radix(length, 16).ok()?;
        let start = line_end + 2;
        let data = bytes.get(start..start + length)?;
        bytes.get(start + length..start + length + 2)?;
        body.extend_from_slice(data);
        at = start + length + 2;
        if length == 0 {
            return Some((body, at));
        }
    }
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

//! HTTP/1.1 by hand.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tower_idempotency::Outcome;

use crate::answer::Answer;
use crate::wait::soon;

/// A connection whose bytes the test writes and reads itself, and what it has received and not used.
pub struct Raw(pub TcpStream, Vec<u8>);

impl Raw {
    pub async fn connect(addr: SocketAddr) -> Self {
        Self::open(addr).await.unwrap()
    }

    pub async fn open(addr: SocketAddr) -> std::io::Result<Self> {
        let stream = TcpStream::connect(addr).await?;
        stream.set_nodelay(true)?;
        Ok(Self(stream, Vec::new()))
    }

    /// Sends the head of a POST to a path, with these lines beside those that make it guarded.
    pub async fn send_head(&mut self, path: &str, key: &str, lines: &[&str]) {
        self.send(&Self::head(path, "secret", key, lines)).await;
    }

    /// Makes the head of a POST to a path, with these lines beside those that make it guarded.
    pub fn head(path: &str, credential: &str, key: &str, lines: &[&str]) -> Vec<u8> {
        let mut head = format!("POST {path} HTTP/1.1\r\nhost: localhost\r\n");
        head += &format!("x-api-key: {credential}\r\nidempotency-key: {key}\r\n");
        for line in lines {
            head += &format!("{line}\r\n");
        }
        head += "\r\n";
        head.into_bytes()
    }

    pub async fn send(&mut self, bytes: &[u8]) {
        soon(self.0.write_all(bytes)).await.unwrap();
    }

    /// Returns how many bytes have been received and not used.
    pub fn received(&self) -> usize {
        self.1.len()
    }

    /// Receives some more bytes.
    pub async fn receive(&mut self) -> std::io::Result<()> {
        match self.0.read_buf(&mut self.1).await? {
            0 => Err(std::io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }

    /// Takes a whole response out of what was received, if there is one.
    pub fn take_answer(&mut self) -> Option<Answer<Bytes>> {
        let (answer, length) = parse(&self.1)?;
        self.1.drain(..length);
        Some(answer)
    }

    /// Reads a response's head, up to the empty line behind it.
    pub async fn read_head(&mut self) -> Vec<u8> {
        loop {
            if let Some(end) = head_end(&self.1) {
                return self.1.drain(..end).collect();
            }
            soon(self.receive()).await.unwrap();
        }
    }

    /// Reads a response, and returns its head in small letters.
    pub async fn read_answer(&mut self) -> String {
        loop {
            if let Some((_, length)) = parse(&self.1) {
                let answer: Vec<_> = self.1.drain(..length).collect();
                let head = &answer[..head_end(&answer).unwrap()];
                return String::from_utf8_lossy(head).to_lowercase();
            }
            soon(self.receive()).await.unwrap();
        }
    }
}

/// Reads one whole response, and says how long it is.
fn parse(bytes: &[u8]) -> Option<(Answer<Bytes>, usize)> {
    let head_end = head_end(bytes)?;
    let head = std::str::from_utf8(&bytes[..head_end]).ok()?;
    let mut lines = head.lines();
    let status = lines.next()?.split(' ').nth(1)?;
    let mut headers = HeaderMap::new();
    for (name, value) in lines.filter_map(|line| line.split_once(": ")) {
        let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
        headers.append(name, HeaderValue::from_str(value).ok()?);
    }
    let (body, end) = match headers.get("content-length") {
        Some(length) => {
            let end = head_end + length.to_str().ok()?.parse::<usize>().ok()?;
            (bytes.get(head_end..end)?.to_vec(), end)
        }
        None => unchunk(bytes, head_end)?,
    };
    let answer = Answer {
        status: StatusCode::from_bytes(status.as_bytes()).ok()?,
        headers,
        outcome: Outcome::of(&http::Extensions::new()),
        body: body.into(),
        trailers: None,
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

fn head_end(bytes: &[u8]) -> Option<usize> {
    Some(find(bytes, b"\r\n\r\n")? + 4)
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

//! A request with what its handler does with it, as text and as a value.

use http::{HeaderMap, Method, StatusCode, Uri};

use super::script::Script;

/// A request, and what the handler does with it.
#[derive(Clone, Debug)]
pub struct Input {
    pub method: Method,
    pub uri: Uri,
    pub headers: HeaderMap,
    pub upload: Script,
    pub reads_upload: bool,
    pub status: StatusCode,
    pub response_headers: HeaderMap,
    pub response: Script,
}

/// Reads the head of the request, its body, the head of the response (`reads`, in front of the
/// status, says that the handler reads the request's body), and its body, with an empty line
/// between any two.
pub fn parse(text: &[u8]) -> Option<Input> {
    let (head, rest) = super::split(text);
    let (upload, rest) = super::split(rest);
    let (response_head, response) = super::split(rest);
    let (line, headers) = split_line(head);
    let space = line.iter().position(|byte| *byte == b' ')?;
    let (status, response_headers) = split_line(response_head);
    let read_status = status.strip_prefix(b"reads ");
    Some(Input {
        method: Method::from_bytes(&line[..space]).ok()?,
        uri: Uri::try_from(&line[space + 1..]).ok()?,
        headers: super::map(&super::fields(headers)),
        upload: Script::parse(upload),
        reads_upload: read_status.is_some(),
        status: StatusCode::from_bytes(read_status.unwrap_or(status)).ok()?,
        response_headers: super::map(&super::fields(response_headers)),
        response: Script::parse(response),
    })
}

fn split_line(text: &[u8]) -> (&[u8], &[u8]) {
    let end = text.iter().position(|byte| *byte == b'\n');
    end.map_or((text, &[]), |end| (&text[..end], &text[end + 1..]))
}

impl Input {
    /// A request to a handler that answers with a few words.
    pub fn post(headers: HeaderMap) -> Self {
        Self {
            method: Method::POST,
            uri: Uri::from_static("/"),
            headers,
            upload: Script::default(),
            reads_upload: false,
            status: StatusCode::CREATED,
            response_headers: HeaderMap::new(),
            response: Script::of(b"done"),
        }
    }
}

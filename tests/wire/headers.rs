//! Header fields, as they lie on the wire.

use axum::response::Response;
use http::HeaderValue;

use crate::support::{BOTH, Client, Raw, Server, layer};

const DATE: &str = "Mon, 01 Jan 2001 00:00:00 GMT";

async fn serve() -> Server {
    Server::start(layer(), |_, _| async {
        let latin_1 = HeaderValue::from_bytes(b"caf\xE9").unwrap();
        Response::builder()
            .status(201)
            .header("x-many", "one")
            .header("x-latin-1", latin_1)
            .header("x-many", "two, three")
            .header("x-many", "one")
            .header("x-empty", "")
            .header("set-cookie", "session=1")
            .header("set-cookie", "theme=dark")
            .header("connection", "keep-alive, X-Internal")
            .header("connection", "x-second")
            .header("x-internal", "node 7")
            .header("x-second", "node 8")
            .header("keep-alive", "timeout=5")
            .header("proxy-connection", "keep-alive")
            .header("trailer", "x-checksum")
            .header("te", "trailers")
            .header("upgrade", "h3")
            .header("idempotency-replayed", "true")
            .header("idempotency-replay-body", "omitted")
            .header("date", DATE)
            .header("location", "/vms/1")
            .body("hello".into())
            .unwrap()
    })
    .await
}

/// Names that the replay does not have, or has anew.
const NOT_KEPT: [&str; 14] = [
    "set-cookie",
    "connection",
    "x-internal",
    "x-second",
    "keep-alive",
    "proxy-connection",
    "trailer",
    "te",
    "upgrade",
    "transfer-encoding",
    "date",
    "content-length",
    "idempotency-replayed",
    "idempotency-replay-body",
];

/// Splits a head into its lines: names, and values byte for byte.
fn fields(head: &[u8]) -> Vec<(String, Vec<u8>)> {
    let lines = head.split(|byte| *byte == b'\n').skip(1);
    let lines = lines.map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let fields = lines.filter_map(|line| {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let name = String::from_utf8(line[..colon].to_vec()).unwrap();
        Some((name, line[colon + 1..].trim_ascii().to_vec()))
    });
    fields.collect()
}

#[tokio::test]
async fn kept_fields_are_replayed_in_order_and_byte_for_byte() {
    let server = serve().await;
    let mut heads = Vec::new();
    for _ in 0..2 {
        let mut raw = Raw::connect(server.addr).await;
        raw.send_head("/", "k", &["content-length: 0"]).await;
        heads.push(fields(&raw.read_head().await));
    }
    let [first, replay] = &heads[..] else {
        unreachable!("two were pushed")
    };
    let count = |head: &[(String, Vec<u8>)], name: &str, value: &[u8]| {
        let is_it = |field: &&(String, Vec<u8>)| field.0 == name && field.1 == value;
        head.iter().filter(is_it).count()
    };
    let kept = |head: &[(String, Vec<u8>)]| -> Vec<_> {
        let is_kept = |field: &&(String, Vec<u8>)| !NOT_KEPT.contains(&&*field.0);
        head.iter().filter(is_kept).cloned().collect()
    };
    assert_eq!(kept(first), kept(replay));
    let many: Vec<_> = replay.iter().filter(|(name, _)| name == "x-many").collect();
    let values: Vec<_> = many.iter().map(|(_, value)| &value[..]).collect();
    assert_eq!(values, [&b"one"[..], b"two, three", b"one"]);
    for (name, value) in [
        ("x-latin-1", &b"caf\xE9"[..]),
        ("x-empty", b""),
        ("location", b"/vms/1"),
    ] {
        assert_eq!(count(replay, name, value), 1, "{name}");
    }

    // Sent the first time, as the handler made it, but for the marker.
    for (name, value) in [
        ("set-cookie", "session=1"),
        ("set-cookie", "theme=dark"),
        ("x-internal", "node 7"),
        ("x-second", "node 8"),
        ("keep-alive", "timeout=5"),
        ("date", DATE),
        ("content-length", "5"),
    ] {
        assert_eq!(count(first, name, value.as_bytes()), 1, "{name}");
    }
    assert!(
        first
            .iter()
            .all(|(name, _)| !name.starts_with("idempotency-"))
    );

    // Made anew, or gone.
    let unkept = replay.iter().filter(|field| NOT_KEPT.contains(&&*field.0));
    let mut unkept: Vec<_> = unkept.map(|(name, _)| &**name).collect();
    unkept.sort_unstable();
    assert_eq!(unkept, ["content-length", "date", "idempotency-replayed"]);
    assert_eq!(count(replay, "idempotency-replayed", b"true"), 1);
    assert_eq!(count(replay, "content-length", b"5"), 1);
    assert_eq!(count(replay, "date", DATE.as_bytes()), 0);
}

#[tokio::test]
async fn a_record_made_over_one_version_is_replayed_over_the_other() {
    for (first, second) in [(BOTH[0], BOTH[1]), (BOTH[1], BOTH[0])] {
        let server = serve().await;
        let first = Client::new(server.addr, first).post("k", "").await;
        assert_eq!(first.headers.get_all("set-cookie").iter().count(), 2);
        let replay = Client::new(server.addr, second).post("k", "").await;
        assert!(replay.is_replay() && !replay.is_without_body());
        assert_eq!((replay.status, &replay.body), (first.status, &first.body));
        let many = |headers: &http::HeaderMap| -> Vec<HeaderValue> {
            headers.get_all("x-many").iter().cloned().collect()
        };
        assert_eq!(many(&replay.headers), many(&first.headers));
        assert_eq!(replay.headers["x-latin-1"], first.headers["x-latin-1"]);
        for gone in [
            "set-cookie",
            "x-internal",
            "x-second",
            "trailer",
            "connection",
        ] {
            assert!(!replay.headers.contains_key(gone), "{gone}");
        }
        assert_ne!(replay.headers["date"], DATE);
        assert_eq!(server.runs(), 1);
    }
}

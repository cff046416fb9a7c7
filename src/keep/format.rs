//! Which formats are an API's answer, and which are files or streams.

use http::HeaderMap;
use http::header::CONTENT_TYPE;

use super::first_part;

/// Says whether a response is in a format that APIs answer in, or names none.
pub(super) fn is_of_an_api(headers: &HeaderMap) -> bool {
    let Some(content_type) = headers.get(CONTENT_TYPE) else {
        return true;
    };
    let essence = first_part(content_type.as_bytes());
    let Some(slash) = essence.iter().position(|byte| *byte == b'/') else {
        return false;
    };
    let (kind, subtype) = (&essence[..slash], &essence[slash + 1..]);
    if kind.eq_ignore_ascii_case(b"text") {
        return !subtype.eq_ignore_ascii_case(b"event-stream");
    }
    if is_of_a_stream(subtype) {
        return false;
    }
    let is_application = kind.eq_ignore_ascii_case(b"application");
    (is_application && is_one_of(APPLICATIONS, subtype))
        || SUFFIXES.iter().any(|suffix| ends_with(subtype, suffix))
}

/// Recognises protocols that put a suffix such as `+json` behind their name, and send a stream.
fn is_of_a_stream(subtype: &[u8]) -> bool {
    let name = |end: &[u8]| {
        let end = subtype.iter().position(|byte| end.contains(byte));
        &subtype[..end.unwrap_or(subtype.len())]
    };
    // Also `grpc-web` and `grpc-web-text`. Its result is in the trailers, which are not kept.
    name(b"+-").eq_ignore_ascii_case(b"grpc") || is_one_of(&["connect", "stream"], name(b"+"))
}

fn is_one_of(names: &[&str], name: &[u8]) -> bool {
    let mut names = names.iter();
    names.any(|other| name.eq_ignore_ascii_case(other.as_bytes()))
}

fn ends_with(text: &[u8], suffix: &str) -> bool {
    let start = text.len().checked_sub(suffix.len());
    start.is_some_and(|start| text[start..].eq_ignore_ascii_case(suffix.as_bytes()))
}

/// Behind `application/`.
const APPLICATIONS: &[&str] = &[
    "json",
    "json-rpc",
    "x-amz-json-1.0",
    "x-amz-json-1.1",
    "x-json",
    "xml",
    "x-xml",
    "x-www-form-urlencoded",
    "javascript",
    "x-javascript",
    "ecmascript",
    "x-ecmascript",
    "yaml",
    "vnd.yaml",
    "x-yaml",
    "cbor",
    "x-cbor",
    "msgpack",
    "vnd.msgpack",
    "x-msgpack",
    // The Connect protocol's name for Protobuf.
    "proto",
    "protobuf",
    "vnd.google.protobuf",
    "vnd.kubernetes.protobuf",
    "x-google-protobuf",
    "x-protobuf",
    "jwt",
];

/// Behind anything.
const SUFFIXES: &[&str] = &[
    "+json",
    "+xml",
    "+yaml",
    "+cbor",
    "+msgpack",
    "+protobuf",
    "+jwt",
];

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn is_kept(content_type: &str) -> bool {
        let value = HeaderValue::from_str(content_type).expect("a valid value");
        is_of_an_api(&HeaderMap::from_iter([(CONTENT_TYPE, value)]))
    }

    #[test]
    fn the_formats_of_apis_are_kept_and_files_and_streams_are_not() {
        assert!(is_of_an_api(&HeaderMap::new()), "no content type at all");
        for (kept, content_types) in [(true, KEPT), (false, NOT_KEPT)] {
            for content_type in content_types {
                assert_eq!(is_kept(content_type), kept, "{content_type:?}");
            }
        }
    }

    #[test]
    fn the_case_of_letters_and_parameters_make_no_difference() {
        for (kept, content_types) in [(true, KEPT), (false, NOT_KEPT)] {
            for content_type in content_types {
                for other in [
                    content_type.to_ascii_uppercase(),
                    format!("{content_type};charset=utf-8"),
                    format!("{content_type} ; a=\"application/json\"; b=+json"),
                    format!("{content_type}; profile=text/event-stream"),
                    format!("\t{content_type} "),
                ] {
                    assert_eq!(is_kept(&other), kept, "{other:?}");
                }
            }
        }
    }

    const KEPT: &[&str] = &[
        // Text, whatever it is.
        "text/plain",
        "text/html",
        "text/csv",
        "text/xml",
        "text/yaml",
        "text/javascript",
        "text/x-anything",
        // JSON.
        "application/json",
        "application/x-json",
        "application/json-rpc",
        "application/x-amz-json-1.0",
        "application/x-amz-json-1.1",
        "application/problem+json",
        "application/vnd.api+json",
        "application/graphql-response+json",
        "application/jose+json",
        "model/gltf+json",
        // XML.
        "application/xml",
        "application/x-xml",
        "application/soap+xml",
        "application/problem+xml",
        "image/svg+xml",
        // Forms and scripts.
        "application/x-www-form-urlencoded",
        "application/javascript",
        "application/x-javascript",
        "application/ecmascript",
        "application/x-ecmascript",
        // YAML.
        "application/yaml",
        "application/x-yaml",
        "application/vnd.yaml",
        "application/openapi+yaml",
        // CBOR.
        "application/cbor",
        "application/x-cbor",
        "application/senml+cbor",
        "application/concise-problem-details+cbor",
        // MessagePack.
        "application/msgpack",
        "application/x-msgpack",
        "application/vnd.msgpack",
        "application/vnd.acme.order+msgpack",
        // Protobuf.
        "application/protobuf",
        "application/x-protobuf",
        "application/x-google-protobuf",
        "application/vnd.google.protobuf",
        "application/vnd.kubernetes.protobuf",
        "application/proto",
        "application/vnd.acme.order+protobuf",
        // JWT.
        "application/jwt",
        "application/at+jwt",
        "application/token-introspection+jwt",
        // Names that only begin like those of a protocol.
        "application/grpcs+json",
        "application/connect-status+json",
        "application/streams+json",
    ];

    const NOT_KEPT: &[&str] = &[
        // gRPC: its result is in the trailers.
        "application/grpc",
        "application/grpc+proto",
        "application/grpc+json",
        "application/grpc+cbor",
        "application/grpc+msgpack",
        "application/grpc+protobuf",
        "application/grpc-web",
        "application/grpc-web+proto",
        "application/grpc-web+json",
        "application/grpc-web-text",
        "application/grpc-web-text+json",
        // Streams and sequences.
        "text/event-stream",
        "application/connect+json",
        "application/connect+proto",
        "application/stream+json",
        "application/ndjson",
        "application/x-ndjson",
        "application/jsonl",
        "application/jsonlines",
        "application/json-seq",
        "application/geo+json-seq",
        "application/cbor-seq",
        "application/senml+cbor-seq",
        // Files.
        "application/pdf",
        "application/octet-stream",
        "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
        "application/wasm",
        "image/png",
        "audio/mpeg",
        "video/mp4",
        "font/woff2",
        "application/zip",
        "application/gzip",
        "application/zstd",
        "application/x-tar",
        "application/epub+zip",
        "application/vnd.sqlite3",
        // Parts.
        "multipart/form-data; boundary=x+json",
        "multipart/mixed; boundary=application/json",
        // The right name in the wrong place.
        "image/json",
        "video/protobuf",
        "application/x-jsonx",
        "application/not-json",
        "application/json+zip",
        "json",
        "+json",
        "application",
        "application/",
        "/json",
        "",
    ];
}

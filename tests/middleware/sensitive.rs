//! Header values that are marked as sensitive, which HPACK never indexes and `Debug` never shows.

use http::{HeaderValue, Response};

use crate::support::{Frames, Handler, scripted, send, write};

#[tokio::test(start_paused = true)]
async fn a_replay_knows_which_header_values_are_sensitive() {
    for is_sized in [true, false] {
        for limit in [3, 4] {
            let handler = Handler::new(move |_, _| async move {
                let mut secret = HeaderValue::from_static("one-time-password");
                secret.set_sensitive(true);
                let mut empty = HeaderValue::from_static("");
                empty.set_sensitive(true);
                let body = ["body"];
                let body = if is_sized {
                    Frames::exact(body)
                } else {
                    Frames::unknown(body)
                };
                let response = Response::builder()
                    .header("x-many", "open")
                    .header("x-many", secret.clone())
                    .header("x-many", "one-time-password")
                    .header("x-secret", secret)
                    .header("x-empty", empty)
                    .header("x-open", "open");
                Ok(response.body(body).unwrap())
            });
            let (layer, _) = scripted();
            let app = handler.under(&layer.max_response_bytes(limit));
            let first = send(&app, write("k")).await;
            let retry = send(&app, write("k")).await;
            retry.assert_replay(if limit < 4 { "" } else { "body" });
            let sensitive = |name: &str| -> Vec<_> {
                let values = |headers: &http::HeaderMap| -> Vec<_> {
                    let values = headers.get_all(name).iter();
                    values.map(HeaderValue::is_sensitive).collect()
                };
                assert_eq!(values(&retry.headers), values(&first.headers), "{name}");
                values(&retry.headers)
            };
            assert_eq!(sensitive("x-many"), [false, true, false]);
            assert_eq!(sensitive("x-secret"), [true]);
            assert_eq!(sensitive("x-empty"), [true]);
            assert_eq!(sensitive("x-open"), [false]);
        }
    }
}

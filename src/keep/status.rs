//! Which statuses answer a request, and which say to send it again.

use http::header::RETRY_AFTER;
use http::{HeaderMap, StatusCode};

/// Says whether a response answers its request for good.
pub(super) fn is_final(status: StatusCode, headers: &HeaderMap) -> bool {
    !(status.is_informational()
        || status.is_server_error()
        || SAYS_AGAIN.contains(&status)
        || (status.is_client_error() && headers.contains_key(RETRY_AFTER)))
}

/// Send this very request again, they say: kept, they would lock its client out.
const SAYS_AGAIN: [StatusCode; 10] = [
    // To another address, with the same method and body.
    StatusCode::TEMPORARY_REDIRECT,
    StatusCode::PERMANENT_REDIRECT,
    // With credentials.
    StatusCode::UNAUTHORIZED,
    StatusCode::PROXY_AUTHENTICATION_REQUIRED,
    // Faster.
    StatusCode::REQUEST_TIMEOUT,
    // Without `Expect`.
    StatusCode::EXPECTATION_FAILED,
    // On another connection.
    StatusCode::MISDIRECTED_REQUEST,
    // After the handshake.
    StatusCode::TOO_EARLY,
    // By another protocol.
    StatusCode::UPGRADE_REQUIRED,
    // Later.
    StatusCode::TOO_MANY_REQUESTS,
];

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn is_kept(status: u16, retry_after: Option<&'static str>) -> bool {
        let status = StatusCode::from_u16(status).expect("a valid status");
        let retry_after = retry_after.map(HeaderValue::from_static);
        let headers = retry_after.map(|value| (RETRY_AFTER, value));
        is_final(status, &headers.into_iter().collect())
    }

    #[test]
    fn each_registered_status_is_kept_unless_it_says_to_send_the_request_again() {
        for (status, kept, why) in REGISTERED {
            assert_eq!(is_kept(*status, None), *kept, "{status}: {why}");
        }
    }

    #[test]
    fn a_status_that_is_not_registered_is_kept_by_its_class() {
        let is_registered = |status: &u16| REGISTERED.iter().any(|(other, ..)| other == status);
        for status in (100..1000).filter(|status| !is_registered(status)) {
            let kept = !matches!(status, 100..200 | 500..600);
            assert_eq!(is_kept(status, None), kept, "status {status}");
        }
    }

    #[test]
    fn retry_after_frees_the_key_of_each_4xx_and_of_no_other_status() {
        for status in 100..1000 {
            let kept = is_kept(status, None) && !(400..500).contains(&status);
            for when in ["0", "120", "Fri, 31 Dec 1999 23:59:59 GMT", "soon", ""] {
                assert_eq!(is_kept(status, Some(when)), kept, "{status}, {when:?}");
            }
        }
    }

    const KEPT: bool = true;
    const AGAIN: bool = false;

    /// The IANA registry of HTTP status codes, whole.
    const REGISTERED: &[(u16, bool, &str)] = &[
        (100, AGAIN, "the answer is still to come"),
        (101, AGAIN, "the connection is no longer one of HTTP"),
        (102, AGAIN, "the answer is still to come (WebDAV)"),
        (103, AGAIN, "the answer is still to come"),
        (
            104,
            AGAIN,
            "the answer is still to come (resumable uploads)",
        ),
        (200, KEPT, "done"),
        (
            201,
            KEPT,
            "done, and a second time would create a second one",
        ),
        (
            202,
            KEPT,
            "accepted, and a second time would queue it twice",
        ),
        (203, KEPT, "done"),
        (204, KEPT, "done"),
        (205, KEPT, "done"),
        (206, KEPT, "done; what part it is says Content-Range"),
        (
            207,
            KEPT,
            "done, each part with a status of its own (WebDAV)",
        ),
        (208, KEPT, "done (WebDAV)"),
        (226, KEPT, "done (delta encoding)"),
        (300, KEPT, "the client is to choose, which is a new request"),
        (301, KEPT, "done; what follows is a GET for a POST"),
        (302, KEPT, "done; what follows is a GET for a POST"),
        (303, KEPT, "done; what follows is a GET"),
        (304, KEPT, "the condition of the request has decided"),
        (305, KEPT, "deprecated, and ignored by clients"),
        (306, KEPT, "unused"),
        (307, AGAIN, "the same request to another address"),
        (308, AGAIN, "the same request to another address"),
        (400, KEPT, "the request is wrong, and stays so"),
        (401, AGAIN, "the same request with credentials"),
        (402, KEPT, "declined; a new attempt has a new key"),
        (403, KEPT, "refused, and credentials do not help"),
        (404, KEPT, "there was no such thing"),
        (405, KEPT, "another method is another request"),
        (406, KEPT, "decided by what the client accepts"),
        (
            407,
            AGAIN,
            "the same request with credentials for the proxy",
        ),
        (408, AGAIN, "the same request, sent faster"),
        (409, KEPT, "refused by the state of the resource"),
        (410, KEPT, "there is no such thing any more"),
        (411, KEPT, "the request is wrong, and stays so"),
        (412, KEPT, "the condition of the request has decided"),
        (413, KEPT, "too large, and stays so"),
        (414, KEPT, "too long, and stays so"),
        (415, KEPT, "another format is another request"),
        (416, KEPT, "another range is another request"),
        (417, AGAIN, "the same request without Expect"),
        (418, KEPT, "unused, and a joke that stays one"),
        (421, AGAIN, "the same request on another connection"),
        (422, KEPT, "the content is wrong, and stays so"),
        (423, KEPT, "refused by the state of the resource (WebDAV)"),
        (424, KEPT, "refused, since another one was (WebDAV)"),
        (425, AGAIN, "the same request after the handshake"),
        (426, AGAIN, "the same request by another protocol"),
        (428, KEPT, "with a condition it is another request"),
        (429, AGAIN, "the same request later"),
        (431, KEPT, "too large, and stays so"),
        (451, KEPT, "refused by law"),
        (500, AGAIN, "failed, and may not the next time"),
        (501, AGAIN, "failed, as all 5xx"),
        (502, AGAIN, "failed behind this server"),
        (503, AGAIN, "the same request later"),
        (504, AGAIN, "failed behind this server"),
        (505, AGAIN, "failed, as all 5xx"),
        (506, AGAIN, "failed, as all 5xx"),
        (507, AGAIN, "the same request when there is room (WebDAV)"),
        (508, AGAIN, "failed, as all 5xx (WebDAV)"),
        (510, AGAIN, "failed, as all 5xx"),
        (511, AGAIN, "the same request after a login to the network"),
    ];
}
